/* What the loads in C share: the clock, round trips and their percentiles, and how a load ends. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Round trips by size, with 64 steps in every power of two of nanoseconds: exact to 1.6 %. */
static uint64_t histogram[64 * 64];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void record(uint64_t ns)
{
    unsigned power = ns < 64 ? 5 : 63 - (unsigned)__builtin_clzll(ns);
    histogram[ns < 64 ? ns : (power - 5) * 64 + ((ns >> (power - 6)) & 63)]++;
}

static double percentile(double share, uint64_t total)
{
    uint64_t wanted = (uint64_t)(share * (double)total), seen = 0;
    for (unsigned i = 0; i < sizeof histogram / sizeof *histogram; i++) {
        seen += histogram[i];
        if (seen && seen >= wanted)
            return (i < 64 ? (double)i : (double)(64 + i % 64) * (double)(1ull << (i / 64 - 1))) / 1000;
    }
    return 0;
}
