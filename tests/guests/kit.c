// One program with a sub-command for every thing a test wants a guest to do: kit COMMAND [ARGUMENT...].
//
// Without a command it says hello. What fails says so on standard error and exits with 1; a wrong command line exits
// with 64. Commands that keep running print "ready" first.

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NEVER_INLINED __attribute__((noinline))
#define LENGTH(array) (sizeof(array) / sizeof(*(array)))

enum { EXIT_WRITE_FAILED = 5, EXIT_USAGE = 64 };

extern char **environ;

static char buffer[64 * 1024];

static int failed(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return EXIT_FAILURE;
}

static void say(const char *line) {
    puts(line);
    fflush(stdout);
}

static void pause_ms(long ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

// Writes everything, in as many writes as it takes.
static bool write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written < 0) return false;
        data += written;
        size -= (size_t)written;
    }
    return true;
}

static int copy(int from, int to) {
    ssize_t size;
    while ((size = read(from, buffer, sizeof buffer)) > 0)
        if (!write_all(to, buffer, (size_t)size)) return failed("write"), EXIT_WRITE_FAILED;
    return size < 0 ? failed("read") : EXIT_SUCCESS;
}

static int write_file(char **words, int flags) {
    int file = open(words[0], O_WRONLY | O_CREAT | flags, 0666);
    if (file < 0 || !write_all(file, words[1], strlen(words[1])) || close(file) < 0) return failed(words[0]);
    return EXIT_SUCCESS;
}

static int list(const char *path) {
    DIR *directory = opendir(path);
    if (!directory) return failed(path);
    for (struct dirent *entry; (entry = readdir(directory));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) puts(entry->d_name);
    closedir(directory);
    return EXIT_SUCCESS;
}

// Each command gets the words that follow its name, closed by NULL.

static int hello(char **) {
    puts("hello from kit");
    return EXIT_SUCCESS;
}

// Prints "arg WORD" for every element of argv, which begins two before the words, and "env NAME=VALUE" for environ.
static int args(char **words) {
    for (char **word = words - 2; *word; word++) printf("arg %s\n", *word);
    for (char **variable = environ; *variable; variable++) printf("env %s\n", *variable);
    return EXIT_SUCCESS;
}

static int exit_with(char **words) {
    exit(atoi(words[0]));
}

static NEVER_INLINED void trap_inner(void) {
    __builtin_trap();
}

static NEVER_INLINED void trap_middle(void) {
    trap_inner();
}

static NEVER_INLINED int trap_outer(char **) {
    trap_middle();
    return EXIT_SUCCESS;
}

static int abort_now(char **) {
    abort();
}

static NEVER_INLINED int divide_by_zero(char **) {
    volatile int one = 1, zero = 0;
    return one / zero;
}

static int cat(char **) {
    return copy(STDIN_FILENO, STDOUT_FILENO);
}

static int err(char **) {
    fputs("to stderr\n", stderr);
    return 3;
}

static int noeol(char **) {
    fputs("no newline", stdout);
    fputs("err no newline", stderr);
    return EXIT_SUCCESS;
}

static int ls(char **words) {
    return list(words[0]);
}

static int read_file(char **words) {
    int file = open(words[0], O_RDONLY);
    return file < 0 ? failed(words[0]) : copy(file, STDOUT_FILENO);
}

static int overwrite(char **words) {
    return write_file(words, O_TRUNC);
}

static int append(char **words) {
    return write_file(words, O_APPEND);
}

static int make_directory(char **words) {
    return mkdir(words[0], 0777) < 0 ? failed(words[0]) : EXIT_SUCCESS;
}

static int remove_file(char **words) {
    return unlink(words[0]) < 0 ? failed(words[0]) : EXIT_SUCCESS;
}

// Prints the kind and the size of what is there, without following a symbolic link.
static int show_stat(char **words) {
    struct stat info;
    if (lstat(words[0], &info) < 0) return failed(words[0]);
    const char *kind = S_ISDIR(info.st_mode)   ? "directory"
                       : S_ISREG(info.st_mode) ? "file"
                       : S_ISLNK(info.st_mode) ? "symlink"
                                               : "other";
    printf("%s %lld\n", kind, (long long)info.st_size);
    return EXIT_SUCCESS;
}

static int make_symlink(char **words) {
    return symlink(words[0], words[1]) < 0 ? failed(words[1]) : EXIT_SUCCESS;
}

static int make_link(char **words) {
    return link(words[0], words[1]) < 0 ? failed(words[1]) : EXIT_SUCCESS;
}

static int read_symlink(char **words) {
    ssize_t size = readlink(words[0], buffer, sizeof buffer);
    if (size < 0) return failed(words[0]);
    printf("%.*s\n", (int)size, buffer);
    return EXIT_SUCCESS;
}

static int spin(char **) {
    say("ready");
    for (volatile unsigned long turns = 0;; turns++) continue;
}

static int sleep_ms(char **words) {
    say("ready");
    pause_ms(atol(words[0]));
    puts("done");
    return EXIT_SUCCESS;
}

static int block(char **) {
    say("ready");
    while (read(STDIN_FILENO, buffer, sizeof buffer) > 0) continue;
    return EXIT_SUCCESS;
}

static int random_bytes(char **words) {
    for (long left = atol(words[0]); left > 0; left--) {
        unsigned char byte;
        if (getentropy(&byte, 1) < 0) return failed("getentropy");
        printf("%02x", byte);
    }
    puts("");
    return EXIT_SUCCESS;
}

// Byte number i of the output is i modulo 251. All writes but the last are of 251 * 256 bytes.
static int out(char **words) {
    static char pattern[251 * 256];
    for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (char)(i % 251);
    for (size_t left = strtoul(words[0], NULL, 10); left > 0;) {
        size_t size = left < sizeof pattern ? left : sizeof pattern;
        if (!write_all(STDOUT_FILENO, pattern, size)) return failed("write"), EXIT_WRITE_FAILED;
        left -= size;
    }
    return EXIT_SUCCESS;
}

static int tty(char **) {
    printf("%d %d %d\n", isatty(STDIN_FILENO), isatty(STDOUT_FILENO), isatty(STDERR_FILENO));
    return EXIT_SUCCESS;
}

static int take_memory(char **words) {
    enum { MIB = 1 << 20, PAGE = 4096 };
    long wanted = atol(words[0]), got = 0;
    for (volatile char *block; got < wanted && (block = malloc(MIB)); got++)
        for (size_t i = 0; i < MIB; i += PAGE) block[i] = 1;
    printf("got %ld MiB\n", got);
    return EXIT_SUCCESS;
}

static NEVER_INLINED int recurse(char **words) {
    volatile bool deeper = true;
    return deeper ? recurse(words) + 1 : 0;
}

static int escape(char **words) {
    for (; *words; words++) {
        int file = open(*words, O_RDONLY);
        printf("%s: %s\n", *words, file < 0 ? strerror(errno) : "opened");
        if (file >= 0) close(file);
    }
    return EXIT_SUCCESS;
}

static int wait_for(char **words) {
    while (access(words[0], F_OK) < 0) pause_ms(5);
    return EXIT_SUCCESS;
}

static int cwd(char **) {
    if (!getcwd(buffer, sizeof buffer)) return failed("getcwd");
    puts(buffer);
    return list(".");
}

static const struct command {
    const char *name;
    int words;
    int (*run)(char **words);
} commands[] = {
    {"hello", 0, hello},
    {"args", 0, args},
    {"exit", 1, exit_with},
    {"trap", 0, trap_outer},
    {"abort", 0, abort_now},
    {"div", 0, divide_by_zero},
    {"cat", 0, cat},
    {"err", 0, err},
    {"noeol", 0, noeol},
    {"ls", 1, ls},
    {"read", 1, read_file},
    {"write", 2, overwrite},
    {"append", 2, append},
    {"mkdir", 1, make_directory},
    {"unlink", 1, remove_file},
    {"stat", 1, show_stat},
    {"symlink", 2, make_symlink},
    {"link", 2, make_link},
    {"readlink", 1, read_symlink},
    {"spin", 0, spin},
    {"sleep", 1, sleep_ms},
    {"block", 0, block},
    {"random", 1, random_bytes},
    {"out", 1, out},
    {"tty", 0, tty},
    {"mem", 1, take_memory},
    {"recurse", 0, recurse},
    {"escape", 1, escape},
    {"wait", 1, wait_for},
    {"cwd", 0, cwd},
};

int main(int argc, char **argv) {
    if (argc < 2) return hello(argv);
    for (size_t i = 0; i < LENGTH(commands); i++)
        if (!strcmp(argv[1], commands[i].name) && argc - 2 >= commands[i].words) return commands[i].run(argv + 2);
    fprintf(stderr, "kit: no command \"%s\" with %d arguments\n", argv[1], argc - 2);
    return EXIT_USAGE;
}
