// The functions of fraction.wit, once for the world and once for its interface ops.
//
// In the canonical ABI a record of two numbers is passed as two numbers, and returned as an address of the two.

#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))

struct fraction {
    int32_t numerator, denominator;
};

static struct fraction result;

static int32_t greatest_common_divisor(int32_t a, int32_t b) {
    while (b) {
        int32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a < 0 ? -a : a;
}

static const struct fraction *reduced(int32_t numerator, int32_t denominator) {
    if (denominator == 0) __builtin_trap();
    int32_t divisor = greatest_common_divisor(numerator, denominator);
    if (denominator < 0) divisor = -divisor;
    result = (struct fraction){numerator / divisor, denominator / divisor};
    return &result;
}

EXPORT("new") const struct fraction *new(int32_t numerator, int32_t denominator) {
    return reduced(numerator, denominator);
}

EXPORT("add") const struct fraction *add(int32_t a_num, int32_t a_den, int32_t b_num, int32_t b_den) {
    return reduced(a_num * b_den + b_num * a_den, a_den * b_den);
}

EXPORT("example:fraction/ops#new") const struct fraction *ops_new(int32_t numerator, int32_t denominator) {
    return new(numerator, denominator);
}

EXPORT("example:fraction/ops#add")
const struct fraction *ops_add(int32_t a_num, int32_t a_den, int32_t b_num, int32_t b_den) {
    return add(a_num, a_den, b_num, b_den);
}
