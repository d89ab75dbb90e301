/* A whole system in one file that talks on a CAN bus: it looks for Kvaser's card on the PCI bus, sends
 * `abc` as 0x123, and says what it hears. Its controller is an SJA1000, in its PeliCAN mode.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { SERIAL = 0x3f8, PCI_ADDRESS = 0xcf8, PCI_DATA = 0xcfc, CARD = 0x840610e8 };
enum { MODE = 0, COMMAND = 1, STATUS = 2, INTERRUPTS = 4, OUTPUT = 8, FRAME = 16, CLOCK = 31 };

__asm__(".section .note.pvh, \"a\", @note\n"
        ".balign 4\n.long 4, 4, 18\n.asciz \"Xen\"\n.long start\n"
        ".text\n"
        ".globl start\nstart: cli\ncld\nmov $stack_top, %esp\ncall main\n1: hlt\njmp 1b\n"
        ".bss\n.align 16\n.skip 8192\nstack_top:\n"
        ".text\n");

static void out8(u32 port, u8 value) { __asm__ volatile("outb %0, %w1" ::"a"(value), "d"(port)); }
static void out32(u32 port, u32 value) { __asm__ volatile("outl %0, %w1" ::"a"(value), "d"(port)); }
static u8 in8(u32 port)
{
    u8 value;
    __asm__ volatile("inb %w1, %0" : "=a"(value) : "d"(port));
    return value;
}
static u32 in32(u32 port)
{
    u32 value;
    __asm__ volatile("inl %w1, %0" : "=a"(value) : "d"(port));
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
    for (; *text; text++)
        put(*text);
}

static u32 config(u32 slot, u32 at)
{
    out32(PCI_ADDRESS, 1u << 31 | slot << 11 | at);
    return in32(PCI_DATA);
}

/* Ports of the controller; 0: there is no card. */
static u32 find(void)
{
    for (u32 slot = 0; slot < 32; slot++)
        if (config(slot, 0) == CARD) {
            u32 command = config(slot, 4);
            out32(PCI_DATA, command | 1);
            return config(slot, 0x14) & ~3u;
        }
    return 0;
}

void main(void)
{
    u32 card = find();

    if (!card) {
        say("no card\r\n");
        return;
    }
    out8(card + MODE, 1);
    out8(card + CLOCK, 0x80);
    for (u32 i = 0; i < 4; i++) {
        out8(card + FRAME + i, 0);
        out8(card + FRAME + 4 + i, 0xff);
    }
    out8(card + INTERRUPTS, 0);
    out8(card + OUTPUT, 0x1a);
    out8(card + MODE, 0);
    out8(card + FRAME, 3);
    out8(card + FRAME + 1, 0x123 >> 3);
    out8(card + FRAME + 2, (0x123 & 7) << 5);
    for (u32 i = 0; i < 3; i++)
        out8(card + FRAME + 3 + i, (u8)('a' + i));
    out8(card + COMMAND, 1);
    say("sent\r\n");
    for (;;)
        if (in8(card + STATUS) & 1) {
            u32 length = in8(card + FRAME) & 15;
            say("heard ");
            for (u32 i = 0; i < length && i < 8; i++)
                put((char)in8(card + FRAME + 3 + i));
            say("\r\n");
            out8(card + COMMAND, 4);
        }
}
