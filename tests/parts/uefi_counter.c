/* A program for UEFI firmware: counts its starts in a variable that the firmware keeps, tells the
 * count on the serial line, and powers off when the button is pressed. */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum { SERIAL = 0x3f8, PM_STATUS = 0x600, PM_ENABLE = 0x602, PM_CONTROL = 0x604 };
enum { POWER_BUTTON = 0x100, SLEEP = 0x2000 };

/* What makes a file a program: one section, which may lie anywhere. */
__asm__(".section .head, \"a\"\n"
        ".ascii \"MZ\"\n.org 0x3c\n.long 0x40\n"
        ".ascii \"PE\\0\\0\"\n.word 0x8664, 1\n.long 0, 0, 0\n.word 160, 0x206\n"
        ".word 0x20b, 0\n.long size, 0, 0, entry, 0x1000\n.quad 0\n.long 0x1000, 0x1000\n"
        ".word 0, 0, 0, 0, 0, 0\n.long 0, end, 0x1000, 0\n.word 10, 0\n"
        ".quad 0, 0, 0, 0\n.long 0, 6\n.skip 48\n"
        ".ascii \".text\\0\\0\\0\"\n.long size, 0x1000, size, 0x1000, 0, 0, 0, 0xe0000020\n.text\n");

typedef u64 __attribute__((ms_abi)) (*get_t)(const u16 *, const void *, u32 *, u64 *, void *);
typedef u64 __attribute__((ms_abi)) (*set_t)(const u16 *, const void *, u32, u64, const void *);
typedef u64 __attribute__((ms_abi)) (*watchdog_t)(u64, u64, u64, const u16 *);

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
static u16 in16(u16 port)
{
    u16 value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void *at(const void *table, int offset) { return *(void **)((const u8 *)table + offset); }

u64 __attribute__((ms_abi)) entry(void *image, const void *system)
{
    const u16 name[] = {'s', 't', 'a', 'r', 't', 's', 0};
    const u8 vendor[16] = {0x6d, 0x2f, 0x1a, 0x90, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const void *runtime = at(system, 88), *boot = at(system, 96);
    u8 count = 0;
    u64 size = 1;
    char said[] = "start 0\r\n";

    (void)image;
    ((watchdog_t)at(boot, 256))(0, 0, 0, 0);
    if (((get_t)at(runtime, 72))(name, vendor, 0, &size, &count))
        count = 0;
    count++;
    if (((set_t)at(runtime, 88))(name, vendor, 7, 1, &count))
        count = 0;
    said[6] = (char)('0' + count);
    for (const char *c = said; *c; c++)
        out8(SERIAL, (u8)*c);
    out16(PM_ENABLE, POWER_BUTTON);
    for (;;) {
        if (in16(PM_STATUS) & POWER_BUTTON)
            out16(PM_CONTROL, SLEEP);
        __asm__ volatile("hlt");
    }
}
