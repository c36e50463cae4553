/*
 * The control file of the stub: what a call shall answer now. Line formats stand in NvmlScript, which writes them.
 * Time is CLOCK_BOOTTIME.
 */
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 3, INVALID_ARGUMENT = 2, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { MAX_GPUS = 16, MAX_ROWS = 1024 };

typedef struct { unsigned long long at_us; union { double d; unsigned u; unsigned long long ull; } value; } Row;
static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* A handle is 1 + the GPU's number, and for an instance of it also FIRST_INSTANCE * (1 + its slot). */
enum { FIRST_INSTANCE = 100, SLOTS = 7 };

static int index_of(void *handle) { return (int)(intptr_t)handle % FIRST_INSTANCE - 1; }

static int slot_of(void *handle) { return (int)(intptr_t)handle / FIRST_INSTANCE - 1; }

/* The lines "key gpu rest" that are for this GPU (or for all: "*"); `visit` gets each rest. */
static void each(const char *key, int gpu, void (*visit)(const char *rest, void *out), void *out) {
    const char *path = getenv("NVML_STUB_SCRIPT");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[16384], word[64], who[16];
    int used;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "%63s %15s %n", word, who, &used) == 2 && !strcmp(word, key) &&
            (who[0] == '*' || gpu < 0 || atoi(who) == gpu))
            visit(line + used, out);
    if (file) fclose(file);
}

static void take_number(const char *rest, void *out) { sscanf(rest, "%lf", (double *)out); }

static double number(const char *key, int gpu, double otherwise) {
    each(key, gpu, take_number, &otherwise);
    return otherwise;
}

typedef struct { const char *call; int code, times; double stall_s; int dies; } Fault;

static void take_error(const char *rest, void *out) {
    char call[32]; int code, times; Fault *fault = out;
    int fields = sscanf(rest, "%31s %d %d", call, &code, &times);
    if (fields < 2 || (strcmp(call, fault->call) && call[0] != '*')) return;
    fault->code = code;
    fault->times = fields == 3 ? times : 0;
}

static void take_stall(const char *rest, void *out) {
    char call[32]; double seconds; Fault *fault = out;
    if (sscanf(rest, "%31s %lf", call, &seconds) == 2 && !strcmp(call, fault->call)) fault->stall_s = seconds;
}

static void take_death(const char *rest, void *out) {
    char call[32]; int how; Fault *fault = out;
    if (sscanf(rest, "%31s %d", call, &how) == 2 && !strcmp(call, fault->call)) fault->dies = how;
}

/* What the script wants of this call: to hang, to die (-1: SIGSEGV, else an exit code), or an error code. */
static int fault(const char *call, int gpu) {
    static int flaky_calls = 0;
    Fault wanted = {call, OK, 0, 0, 0};
    each("stall", gpu, take_stall, &wanted);
    each("die", gpu, take_death, &wanted);
    each("error", gpu, take_error, &wanted);
    if (wanted.stall_s > 0) {
        double until = now_s() + wanted.stall_s;
        while (now_s() < until) usleep(20000);
    }
    if (wanted.dies < 0) raise(SIGSEGV);
    if (wanted.dies > 0) _exit(wanted.dies);
    if (wanted.times && flaky_calls++ % (wanted.times + 1) == wanted.times) return OK;
    return wanted.code;
}

#define FAULT(call, gpu) do { int code = fault(call, gpu); if (code) return code; } while (0)

/* Utilization at an instant: the newest level that had begun, and bursts. */
typedef struct { double at_s, period_s, pct; } Level;

static void take_level(const char *rest, void *out) {
    double pct, since; Level *level = out;
    if (sscanf(rest, "%lf %lf", &pct, &since) == 2 && since <= level->at_s) level->pct = pct;
}

static double busy_until(double t, double length, double every) {
    double whole = floor(t / every), rest = t - whole * every;
    return whole * length + (rest < length ? rest : length);
}

static void take_burst(const char *rest, void *out) {
    double length, every, pct, since; Level *level = out;
    if (sscanf(rest, "%lf %lf %lf %lf", &length, &every, &pct, &since) != 4) return;
    double from = level->at_s - level->period_s - since, to = level->at_s - since;
    if (from < 0) return;
    double share = (busy_until(to, length, every) - busy_until(from, length, every)) / level->period_s;
    if (share * pct > level->pct) level->pct = share * pct;
}

static unsigned level_at(const char *metric, int gpu, double at_s, double period_s) {
    Level level = {at_s, period_s, 0};
    each(metric, gpu, take_level, &level);
    if (!strcmp(metric, "util")) each("burst", gpu, take_burst, &level);
    return (unsigned)lround(level.pct);
}

static double sample_period(void) { return number("sample_s", -1, 1 / 6.0); }

static unsigned level_now(const char *metric, int gpu) {
    double period = sample_period();
    return level_at(metric, gpu, floor(now_s() / period) * period, period);
}

typedef struct { Row *rows; unsigned count; unsigned long long newest_us; } Rows;

static void add(Rows *rows, unsigned long long at_us, unsigned pct) {
    if ((at_us && at_us <= rows->newest_us) || rows->count == MAX_ROWS) return;
    rows->rows[rows->count].at_us = at_us;
    rows->rows[rows->count++].value.ull = pct;
}

/* "samples G at_s:pct …" are given rows, in the given order; without them the ring is made of levels. */
static void take_rows(const char *rest, void *out) {
    double at_s, pct; int used;
    while (sscanf(rest, "%lf:%lf %n", &at_s, &pct, &used) == 2) {
        add(out, (unsigned long long)llround(at_s * 1e6), (unsigned)pct);
        rest += used;
    }
}

static const char *metric_of(int kind) {
    switch (kind) {
        case 1: return "util";
        case 3: return "encoder";
        case 4: return "decoder";
        case 8: return "jpeg";
        case 9: return "ofa";
        default: return NULL;
    }
}

static void fill(Rows *rows, int kind, int gpu) {
    if (kind == 1) each("samples", gpu, take_rows, rows);
    if (rows->count || number("given", gpu, 0)) return;
    double period = sample_period(), newest = floor(now_s() / period);
    int depth = (int)number("ring", -1, 100);
    for (int back = depth - 1; back >= 0; back--) {
        double at_s = (newest - back) * period;
        add(rows, (unsigned long long)llround(at_s * 1e6), level_at(metric_of(kind), gpu, at_s, period));
    }
}
