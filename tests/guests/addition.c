// The functions of addition.wit.

#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))

EXPORT("add") int32_t add(int32_t a, int32_t b) {
    return a + b;
}

EXPORT("sub") int32_t sub(int32_t a, int32_t b) {
    return a - b;
}
