/* Becomes the app: `enter ROOT FILE`. Without a library, for x86-64.

   FILE holds strings that each end with a NUL: the user as an image names it, the working
   directory, the number of environment variables, these, and the words of the command. ROOT is the
   app's file system. What cannot be done is written to descriptor 3, and the exit code is a
   shell's: 127 for a program that is not there, 126 for all else. */

#include "calls.h"

enum {
  READ = 0, WRITE = 1, OPEN = 2, CLOSE = 3, SIGACTION = 13, EXECVE = 59, EXIT = 60, CHDIR = 80,
  MKDIR = 83, FCHOWN = 93, SETUID = 105, SETGID = 106, SETSID = 112, SETGROUPS = 116, CHROOT = 161
};
enum { ENOENT = 2, ENOEXEC = 8, EACCES = 13, ENOTDIR = 20 };
enum { MOST = 1 << 20, WORDS = 1 << 16, GROUPS = 256, SIGNALS = 64 };

static char given[MOST], table[MOST], path[8192];
static char *environment[WORDS], *command[WORDS];
static unsigned groups[GROUPS];
static unsigned uid, gid;
static int group_count;

static word length(const char *text) {
  word n = 0;
  while (text[n]) n++;
  return n;
}

static int same(const char *one, const char *other, word size) {
  for (word i = 0; i < size; i++)
    if (one[i] != other[i]) return 0;
  return 1;
}

static void say(const char *text) { CALL(WRITE, 3, text, length(text), 0); }

static void fail(int code, const char *what, const char *which, const char *why) {
  say("cannot ");
  say(what);
  say(which);
  say(why);
  CALL(EXIT, code, 0, 0, 0);
}

/* A whole file, with a NUL behind it. Empty when it is not there. */
static word read_file(const char *name, char *into) {
  long file = CALL(OPEN, name, 0, 0, 0), n;
  word size = 0;
  if (file < 0) return into[0] = 0;
  while (size < MOST - 1 && (n = CALL(READ, file, into + size, MOST - 1 - size, 0)) > 0) size += n;
  CALL(CLOSE, file, 0, 0, 0);
  into[size] = 0;
  return size;
}

/* -1: it is no number. */
static long number(const char *text, word size) {
  long value = 0;
  if (size == 0 || size > 10) return -1;
  for (word i = 0; i < size; i++) {
    if (text[i] < '0' || text[i] > '9') return -1;
    value = value * 10 + (text[i] - '0');
  }
  return value <= 0xfffffffeL ? value : -1;
}

/* The field of a line, counted from 0, and its size. */
static const char *field(const char *line, int which, word *size) {
  while (which > 0 && *line && *line != '\n') which -= *line++ == ':';
  *size = 0;
  while (line[*size] && line[*size] != '\n' && line[*size] != ':') (*size)++;
  return line;
}

static const char *next_line(const char *line) {
  while (*line && *line != '\n') line++;
  return *line ? line + 1 : line;
}

/* The line of `table` whose name, or number in column 2, is the one wanted; 0: there is none. */
static const char *find(const char *wanted, word size) {
  long id = number(wanted, size);
  for (const char *line = table; *line; line = next_line(line)) {
    word n;
    const char *name = field(line, 0, &n);
    if (n == size && same(name, wanted, n)) return line;
    const char *column = field(line, 2, &n);
    if (id >= 0 && number(column, n) == id) return line;
  }
  return 0;
}

static int listed(const char *names, word size, const char *login, word login_size) {
  word start = 0;
  for (word i = 0; i <= size; i++)
    if (i == size || names[i] == ',') {
      if (i - start == login_size && same(names + start, login, login_size)) return 1;
      start = i + 1;
    }
  return 0;
}

static void add_group(unsigned id) {
  for (int i = 0; i < group_count; i++)
    if (groups[i] == id) return;
  if (group_count < GROUPS) groups[group_count++] = id;
}

/* `user`, `uid`, `user:group` or `uid:gid`, by the image's own files, as Docker does: a number need
   not be listed, a name must; its groups are those that list the user, unless one is given. */
static void find_user(const char *wanted) {
  static char login[256];
  word size = 0, n, login_size = 0;
  while (wanted[size] && wanted[size] != ':') size++;
  const char *group = wanted[size] ? wanted + size + 1 : "";
  read_file("/etc/passwd", table);
  const char *line = size ? find(wanted, size) : find("0", 1);
  if (line) {
    const char *text = field(line, 0, &login_size);
    if (login_size > sizeof login) login_size = sizeof login;
    for (word i = 0; i < login_size; i++) login[i] = text[i];
    text = field(line, 2, &n);
    uid = number(text, n);
    text = field(line, 3, &n);
    gid = number(text, n);
  } else if (size && number(wanted, size) < 0)
    fail(126, "run as ", wanted, ": the image's /etc/passwd has no such user");
  else if (size)
    uid = number(wanted, size);
  read_file("/etc/group", table);
  if (*group) {
    line = find(group, length(group));
    if (!line && number(group, length(group)) < 0)
      fail(126, "run as ", wanted, ": the image's /etc/group has no such group");
    const char *text = line ? field(line, 2, &n) : group;
    gid = number(text, line ? n : length(group));
    add_group(gid);
    return;
  }
  add_group(gid);
  for (line = table; login_size && *line; line = next_line(line)) {
    const char *names = field(line, 3, &n);
    if (listed(names, n, login, login_size)) {
      const char *text = field(line, 2, &n);
      if (number(text, n) >= 0) add_group(number(text, n));
    }
  }
}

/* Makes what of a directory is missing. */
static void make_directory(const char *name) {
  word size = length(name);
  if (size >= sizeof path) return;
  for (word i = 0; i <= size; i++) {
    path[i] = name[i];
    if (i && (name[i] == '/' || !name[i])) {
      path[i] = 0;
      CALL(MKDIR, path, 0755, 0, 0);
      path[i] = name[i];
    }
  }
}

static const char *reason(long error) {
  if (error == -ENOENT || error == -ENOTDIR) return ": no such program, or its loader is missing";
  if (error == -EACCES) return ": it may not be executed";
  if (error == -ENOEXEC) return ": it is no program for this machine's processor";
  return ": the kernel refuses it";
}

/* Tries each directory of PATH; the first that has something decides. */
static long search(const char *name) {
  const char *places = "";
  long error = -ENOENT;
  for (const char *c = name; *c; c++)
    if (*c == '/') return CALL(EXECVE, name, command, environment, 0);
  for (char **one = environment; *one; one++)
    if (same(*one, "PATH=", 5)) places = *one + 5;
  while (*places) {
    word n = 0, i;
    while (places[n] && places[n] != ':') n++;
    if (n + length(name) + 2 < sizeof path) {
      for (i = 0; i < n; i++) path[i] = places[i];
      if (n) path[i++] = '/';
      for (word k = 0; k <= length(name); k++) path[i + k] = name[k];
      long found = CALL(EXECVE, path, command, environment, 0);
      if (found != -ENOENT && found != -ENOTDIR) error = found;
    }
    places += n + (places[n] == ':');
  }
  return error;
}

/* Signals that a shell ignores for what it starts in the background are the app's again. */
static void hear_signals(void) {
  static word usual[4];
  for (int i = 1; i <= SIGNALS; i++) CALL(SIGACTION, i, usual, 0, 8);
}

void begin(word *stack) {
  char **arguments = (char **)(stack + 1);
  char *at = given, *end = given + read_file(arguments[2], given), *user, *directory;
  if (*stack != 3 || at == end) fail(126, "start: ", "nothing", " was said of the app");
  user = at, at += length(at) + 1;
  directory = at, at += length(at) + 1;
  long count = number(at, length(at));
  at += length(at) + 1;
  long i = 0;
  for (; i < count && i < WORDS - 1 && at < end; i++, at += length(at) + 1) environment[i] = at;
  for (i = 0; i < WORDS - 1 && at < end; i++, at += length(at) + 1) command[i] = at;
  if (!command[0]) fail(126, "start: ", "no command", " was said");
  if (CALL(CHROOT, arguments[1], 0, 0, 0) || CALL(CHDIR, "/", 0, 0, 0))
    fail(126, "enter ", arguments[1], "");
  find_user(user);
  make_directory(directory);
  if (CALL(CHDIR, directory, 0, 0, 0)) fail(126, "start in ", directory, ": no such directory");
  CALL(SETSID, 0, 0, 0, 0);
  hear_signals();
  CALL(FCHOWN, 1, uid, gid, 0);
  if (CALL(SETGROUPS, group_count, groups, 0, 0) || CALL(SETGID, gid, 0, 0, 0) ||
      CALL(SETUID, uid, 0, 0, 0))
    fail(126, "run as ", user, ": the kernel refuses it");
  long error = search(command[0]);
  fail(error == -ENOENT ? 127 : 126, "start ", command[0], reason(error));
}
