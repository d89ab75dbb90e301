/* A program's beginning, `begin`, and the kernel's calls. For x86-64. */

typedef unsigned long word;

__asm__(".globl _start\n_start:\n xor %ebp,%ebp\n mov %rsp,%rdi\n and $-16,%rsp\n call begin\n");
/* call6(number, a, b, c, d, e) */
__asm__(".globl call6\ncall6:\n mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n mov %rcx,%rdx\n"
        " mov %r8,%r10\n mov %r9,%r8\n syscall\n ret\n");
long call6(long number, word a, word b, word c, word d, word e);
#define CALL(n, a, b, c, d) call6(n, (word)(a), (word)(b), (word)(c), (word)(d), 0)
