/* What the loads in C share: the clock, round trips and their percentiles, and how a load ends. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Round trips by size, with 64 steps in every power of two of nanoseconds: exact to 1.6 %. */
typedef uint64_t trips[64 * 64];

/* Those of a load that has one kind of them. */
static trips histogram;

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

static inline void recordIn(uint64_t *into, uint64_t ns)
{
    unsigned power = ns < 64 ? 5 : 63 - (unsigned)__builtin_clzll(ns);
    into[ns < 64 ? ns : (power - 5) * 64 + ((ns >> (power - 6)) & 63)]++;
}

/* In microseconds; total is how many there are. */
static inline double percentileOf(const uint64_t *from, double share, uint64_t total)
{
    uint64_t wanted = (uint64_t)(share * (double)total), seen = 0;
    for (unsigned i = 0; i < sizeof(trips) / sizeof *from; i++) {
        seen += from[i];
        if (seen && seen >= wanted)
            return (i < 64 ? (double)i : (double)(64 + i % 64) * (double)(1ull << (i / 64 - 1))) / 1000;
    }
    return 0;
}

static inline void record(uint64_t ns)
{
    recordIn(histogram, ns);
}

static inline double percentile(double share, uint64_t total)
{
    return percentileOf(histogram, share, total);
}
