/* A whole system in one file: it starts by PVH, or by multiboot where that is defined, speaks on the
 * serial line, heeds the power button.
 *
 * Its command line is a verb and a word:
 *   run          says `ready`, answers `ping` on its console, ends when the power button is pressed
 *   stubborn     the same, but only says `no` to the button
 *   exit         powers itself off at once
 *   panic        tells the machine that it cannot go on
 *   say WORD     says it, then as `run`
 *   read         says what its RAM disk holds, then as `run`
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { SERIAL = 0x3f8, PANIC = 0x505, PM_STATUS = 0x600, PM_ENABLE = 0x602, PM_CONTROL = 0x604 };
enum { POWER_BUTTON = 0x100, SLEEP = 0x2000 };

#ifdef MULTIBOOT
/* Magic, flags, and what makes all three nothing. */
__asm__(".section .multiboot, \"a\"\n.balign 4\n.long 0x1badb002, 0, -0x1badb002\n");
#else
/* The entry point, in an ELF note (Xen's name, type 18). */
__asm__(".section .note.pvh, \"a\", @note\n"
        ".balign 4\n.long 4, 4, 18\n.asciz \"Xen\"\n.long start\n");
#endif

/* A stack of our own. */
__asm__(".text\n"
        ".globl start\nstart: cli\ncld\nmov $stack_top, %esp\npush %ebx\ncall main\n1: hlt\njmp 1b\n"
        ".globl tick\ntick: push %eax\nmov $0x20, %al\nout %al, $0x20\npop %eax\niret\n"
        ".bss\n.align 16\n.skip 8192\nstack_top:\n"
        ".text\n");

extern void tick(void);

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
static u8 in8(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static u16 in16(u16 port)
{
    u16 value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void put(char c)
{
    while (!(in8(SERIAL + 5) & 0x20))
        ;
    out8(SERIAL, (u8)c);
}

static void say(const char *text)
{
    while (*text)
        put(*text++);
}

static int begins(const char *text, const char *word)
{
    while (*word)
        if (*text++ != *word++)
            return 0;
    return 1;
}

/* A timer interrupt a hundredth of a second apart: between two of them the processor rests. */
static void start_timer(void)
{
    static u32 segments[4] = {0, 0, 0x0000ffff, 0x00cf9a00};
    static u32 gates[2 * 33];
    static struct { u16 size; u32 base; } __attribute__((packed)) table;
    u32 handler = (u32)tick;

    table.size = sizeof segments - 1;
    table.base = (u32)segments;
    __asm__ volatile("lgdt %0; ljmp $8, $1f; 1:" ::"m"(table));
    gates[64] = 8 << 16 | (handler & 0xffff);
    gates[65] = (handler & 0xffff0000) | 0x8e00;
    table.size = sizeof gates - 1;
    table.base = (u32)gates;
    __asm__ volatile("lidt %0" ::"m"(table));
    out8(0x20, 0x11), out8(0x21, 32), out8(0x21, 4), out8(0x21, 1);
    out8(0xa0, 0x11), out8(0xa1, 40), out8(0xa1, 2), out8(0xa1, 1);
    out8(0x21, 0xfe), out8(0xa1, 0xff);
    out8(0x43, 0x34), out8(0x40, 11932 & 0xff), out8(0x40, 11932 >> 8);
}

static void hear(void)
{
    static char line[64];
    static u32 length;

    while (in8(SERIAL + 5) & 1) {
        char c = (char)in8(SERIAL);
        if (c == '\r' || c == '\n') {
            line[length] = 0;
            length = 0;
            if (begins(line, "ping"))
                say("pong\r\n");
        } else if (length < sizeof line - 1) {
            line[length++] = c;
        }
    }
}

/* The command line, or nothing. Multiboot has the kernel's own name before it. */
static const char *words_of(const u32 *start_info)
{
#ifdef MULTIBOOT
    const char *words = start_info[0] & 4 ? (const char *)start_info[4] : "";

    while (*words && *words != ' ')
        words++;
    return *words ? words + 1 : words;
#else
    return start_info[6] ? (const char *)start_info[6] : "";
#endif
}

/* The RAM disk: where it begins and ends; 0, 0: there is none. */
struct span { u32 begin, end; };
static struct span ramdisk_of(const u32 *start_info)
{
    struct span found = {0, 0};
#ifdef MULTIBOOT
    const u32 *module = (const u32 *)start_info[6];

    if (start_info[0] & 8 && start_info[5])
        found.begin = module[0], found.end = module[1];
#else
    const u32 *module = (const u32 *)start_info[4];

    if (start_info[3])
        found.begin = module[0], found.end = module[0] + module[2];
#endif
    return found;
}

void main(const u32 *start_info)
{
    struct span ramdisk = ramdisk_of(start_info);
    const char *words = words_of(start_info);
    int stubborn = begins(words, "stubborn");

    if (begins(words, "exit"))
        out16(PM_CONTROL, SLEEP);
    if (begins(words, "panic"))
        out8(PANIC, 1);
    out16(PM_ENABLE, POWER_BUTTON);
    start_timer();
    if (begins(words, "say "))
        say(words + 4), say("\r\n");
    if (begins(words, "read"))
        while (ramdisk.begin < ramdisk.end)
            put(*(const char *)ramdisk.begin++);
    say("ready\r\n");
    for (;;) {
        hear();
        if (in16(PM_STATUS) & POWER_BUTTON) {
            out16(PM_STATUS, POWER_BUTTON);
            if (!stubborn)
                out16(PM_CONTROL, SLEEP);
            say("no\r\n");
        }
        __asm__ volatile("sti; hlt; cli");
    }
}
