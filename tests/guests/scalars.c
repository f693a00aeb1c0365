// The functions of scalars.wit.
//
// In the canonical ABI a string is passed as an address and a length, and returned as an address of the two. The caller
// gets the room for what it passes from cabi_realloc, and calls cabi_post_NAME when it has read what NAME returned.

#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define ECHO(name, type) \
    EXPORT("echo-" #name) type echo_##name(type x) { return x; }
#define FORGET_AFTER(name, function) \
    EXPORT("cabi_post_" name) void function(const void *) { used = 0; }

struct string {
    const char *text;
    size_t size;
};

static char heap[1 << 20] __attribute__((aligned(16)));
static size_t used;
static struct string result;

static char *take(size_t alignment, size_t size) {
    size_t start = (used + alignment - 1) & -alignment;
    if (start > sizeof heap || size > sizeof heap - start) __builtin_trap();
    used = start + size;
    return heap + start;
}

static void copy(char *to, const char *from, size_t size) {
    for (size_t i = 0; i < size; i++) to[i] = from[i];
}

static const struct string *string(const char *text, size_t size) {
    result = (struct string){text, size};
    return &result;
}

EXPORT("cabi_realloc") void *reallocate(void *old, size_t old_size, size_t alignment, size_t size) {
    char *room = take(alignment, size);
    copy(room, old, old_size < size ? old_size : size);
    return room;
}

FORGET_AFTER("echo-string", forget_echo)
FORGET_AFTER("shout", forget_shout)
FORGET_AFTER("mix", forget_mix)

ECHO(bool, int32_t)
ECHO(s8, int32_t)
ECHO(s16, int32_t)
ECHO(s32, int32_t)
ECHO(s64, int64_t)
ECHO(u8, uint32_t)
ECHO(u16, uint32_t)
ECHO(u32, uint32_t)
ECHO(u64, uint64_t)
ECHO(f32, float)
ECHO(f64, double)
ECHO(char, uint32_t)

EXPORT("echo-string") const struct string *echo_string(const char *text, size_t size) {
    return string(text, size);
}

EXPORT("shout") const struct string *shout(const char *text, size_t size) {
    char *loud = take(1, size);
    for (size_t i = 0; i < size; i++) loud[i] = text[i] >= 'a' && text[i] <= 'z' ? text[i] - 'a' + 'A' : text[i];
    return string(loud, size);
}

// Puts the decimal digits of a number in front of end, at least as many as asked for, and returns where they begin.
static char *digits(char *end, uint64_t number, int at_least) {
    for (; number || at_least > 0; number /= 10, at_least--) *--end = (char)('0' + number % 10);
    return end;
}

EXPORT("mix") const struct string *mix(uint32_t a, double b, const char *text, size_t size) {
    enum { ROOM = 64 };
    char *start = take(1, ROOM), *end = start + ROOM;
    double magnitude = b < 0 ? -b : b;
    if (!(magnitude < 1e15)) __builtin_trap();
    uint64_t thousandths = (uint64_t)(magnitude * 1000 + 0.5);

    *--end = ' ';
    end = digits(end, thousandths % 1000, 3);
    *--end = '.';
    end = digits(end, thousandths / 1000, 1);
    if (b < 0) *--end = '-';
    *--end = ' ';
    end = digits(end, a, 1);

    size_t front = (size_t)(start + ROOM - end);
    char *whole = take(1, front + size);
    copy(whole, end, front);
    copy(whole + front, text, size);
    return string(whole, front + size);
}

EXPORT("nothing") void nothing(void) {}

__attribute__((noinline)) static void fail_inside(void) {
    __builtin_trap();
}

EXPORT("fail") void fail(void) {
    fail_inside();
}
