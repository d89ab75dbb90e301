/* A floppy disk that a BIOS boots: says so on the serial line and on the screen, then rests. */
    .code16
    .globl start
start:
    xorw %ax, %ax
    movw %ax, %ds
    movw $0x7c00 + text - start, %si
    cld
next:
    lodsb
    testb %al, %al
    jz rest
    movw $0x3f8, %dx
    outb %al, %dx
    movb $0x0e, %ah
    xorw %bx, %bx
    int $0x10
    jmp next
rest:
    sti
    hlt
    jmp rest
text:
    .asciz "booted from a floppy disk\r\n"
    .org 510
    .word 0xaa55
