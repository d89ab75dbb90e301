/* Prints the SHA-256 of a device's first bytes: `digest DEVICE BYTES`, BYTES a multiple of 4096.
   The kernel computes it, with the processor's own instructions where there are some, and nothing
   passes through its cache: the whole of a root image is read here, and most of it never again.
   Without a library, for x86-64. Exit code 1, and not a word, when it cannot. */

typedef unsigned long word;

__asm__(".globl _start\n_start:\n xor %ebp,%ebp\n mov %rsp,%rdi\n and $-16,%rsp\n call begin\n");
/* call6(number, a, b, c, d, e, f) */
__asm__(".globl call6\ncall6:\n mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n mov %rcx,%rdx\n"
        " mov %r8,%r10\n mov %r9,%r8\n mov 8(%rsp),%r9\n syscall\n ret\n");
long call6(long number, word a, word b, word c, word d, word e, word f);
#define CALL(n, a, b, c, d) call6(n, (word)(a), (word)(b), (word)(c), (word)(d), 0, 0)

enum { READ = 0, WRITE = 1, OPEN = 2, SOCKET = 41, ACCEPT = 43, SENDTO = 44, BIND = 49, EXIT = 60 };
enum { O_DIRECT = 0x4000, AF_ALG = 38, SOCK_SEQPACKET = 5, MSG_MORE = 0x8000 };
enum { CHUNK = 1 << 20, SIZE = 32 };

/* linux/if_alg.h */
static struct {
  unsigned short family;
  char type[14];
  unsigned feature, mask;
  char name[64];
} address = {AF_ALG, "hash"};

/* the best first: of two processors' instructions, then the plain one, which an emulator is
   faster at than at vectors */
static const char *const names[] = {"sha256-ni", "sha256-ce", "sha256-generic", "sha256", 0};

static char buffer[CHUNK] __attribute__((aligned(4096)));

static void end(int code) {
  CALL(EXIT, code, 0, 0, 0);
  for (;;);
}

/* Whatever fails ends here. */
static long done(long result) {
  if (result < 0) end(1);
  return result;
}

static int open_hash(void) {
  int made = done(CALL(SOCKET, AF_ALG, SOCK_SEQPACKET, 0, 0));
  for (int i = 0; names[i]; i++) {
    int n = 0;
    for (; names[i][n]; n++) address.name[n] = names[i][n];
    address.name[n] = 0;
    if (CALL(BIND, made, &address, sizeof address, 0) == 0) return done(CALL(ACCEPT, made, 0, 0, 0));
  }
  end(1);
  return -1;
}

static void print(const unsigned char *digest) {
  static const char digits[] = "0123456789abcdef";
  char text[2 * SIZE + 1];
  for (int i = 0; i < SIZE; i++) {
    text[2 * i] = digits[digest[i] >> 4];
    text[2 * i + 1] = digits[digest[i] & 15];
  }
  text[2 * SIZE] = '\n';
  if (CALL(WRITE, 1, text, sizeof text, 0) != sizeof text) end(1);
}

void begin(word *stack) {
  const char **arguments = (const char **)(stack + 1);
  word left = 0;
  if (stack[0] != 3) end(1);
  for (const char *at = arguments[2]; *at; at++) left = left * 10 + (*at - '0');
  int device = done(CALL(OPEN, arguments[1], O_DIRECT, 0, 0));
  int hash = open_hash();
  while (left) {
    long got = done(CALL(READ, device, buffer, left < CHUNK ? left : CHUNK, 0));
    if (got == 0) end(1); /* it is shorter */
    if (call6(SENDTO, hash, (word)buffer, got, MSG_MORE, 0, 0) != got) end(1);
    left -= got;
  }
  done(call6(SENDTO, hash, (word)buffer, 0, 0, 0, 0));
  if (CALL(READ, hash, buffer, SIZE, 0) != SIZE) end(1);
  print((const unsigned char *)buffer);
  end(0);
}
