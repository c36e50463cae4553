/*
 * A libnvidia-ml.so.1 that answers from a control file, read anew at every call (environment: NVML_STUB_SCRIPT).
 * With -DOLD it lacks the symbols that drivers before 2021 lacked.
 */
#include "script.h"

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } Process;
typedef struct { unsigned gpu, memory; } Rates;

int nvmlInitWithFlags(unsigned flags) { (void)flags; return fault("init", -1); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the stub"; }

int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "580.0"); return OK; }

/* The number of the GPU at an index: those that are gone leave no gap. */
static int gpu_at(int index) {
    for (int gpu = 0; gpu < MAX_GPUS; gpu++)
        if (!number("gone", gpu, 0) && index-- == 0) return gpu;
    return MAX_GPUS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int gone = 0;
    FAULT("count", -1);
    for (int gpu = 0; gpu < MAX_GPUS; gpu++) gone += number("gone", gpu, 0) != 0;
    *count = (unsigned)(number("count", -1, number("gpus", -1, 1)) - gone);
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    int gpu = gpu_at((int)index);
    FAULT("handle", gpu);
    *handle = (void *)(intptr_t)(gpu + 1);
    return OK;
}

int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    FAULT("name", index_of(handle));
    snprintf(text, size, "Stub GPU");
    return OK;
}

int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    FAULT("uuid", index_of(handle));
    if (slot_of(handle) >= 0) snprintf(text, size, "MIG-%04d-%d", index_of(handle), slot_of(handle));
    else snprintf(text, size, "GPU-%08d", index_of(handle));
    return OK;
}

#ifndef OLD

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    FAULT("mig", index_of(handle));
    *current = *pending = (unsigned)number("mig", index_of(handle), 0);
    return OK;
}

/* "instance G slot MiB": an instance with that much memory in use, -1: none in that slot. */
typedef struct { int slot; double mib; } Part;

static void take_part(const char *rest, void *out) {
    int slot; double mib; Part *part = out;
    if (sscanf(rest, "%d %lf", &slot, &mib) == 2 && slot == part->slot) part->mib = mib;
}

static double part_mib(int gpu, int slot) {
    Part part = {slot, -1};
    each("instance", gpu, take_part, &part);
    return part.mib;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    FAULT("instances", index_of(handle));
    *count = SLOTS;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned slot, void **part) {
    FAULT("instance", index_of(handle));
    if (part_mib(index_of(handle), (int)slot) < 0) return NOT_FOUND;
    *part = (void *)((intptr_t)handle + FIRST_INSTANCE * (intptr_t)(slot + 1));
    return OK;
}

int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id) {
    *id = 10 + (unsigned)slot_of(handle);
    return OK;
}

int nvmlDeviceGetVirtualizationMode(void *handle, unsigned *mode) {
    FAULT("virtual", index_of(handle));
    *mode = (unsigned)number("virtual", index_of(handle), 0);
    return OK;
}

/* GPM: a sample is an instant; the metrics are the mean level of "gpm0" … "gpm6" (by slot) between two of them. */
typedef struct { double at_s; int gpu, slot; } Gpm;
typedef struct { unsigned id; int code; double value; const char *name, *long_name, *unit; } GpmMetric;
typedef struct { unsigned version, count; Gpm *before, *after; GpmMetric metrics[]; } GpmMetrics;
typedef struct { unsigned version, supported; } GpmSupport;

static unsigned level_at(const char *metric, int gpu, double at_s, double period_s);

int nvmlGpmQueryDeviceSupport(void *handle, GpmSupport *support) {
    FAULT("gpm_support", index_of(handle));
    support->supported = number("gpm", index_of(handle), 1) != 0;
    return OK;
}

int nvmlGpmSampleAlloc(Gpm **sample) { return (*sample = calloc(1, sizeof **sample)) ? OK : INSUFFICIENT_SIZE; }

int nvmlGpmSampleFree(Gpm *sample) { free(sample); return OK; }

int nvmlGpmMigSampleGet(void *handle, unsigned id, Gpm *sample) {
    FAULT("gpm_sample", index_of(handle));
    *sample = (Gpm){now_s(), index_of(handle), (int)id - 10};
    return OK;
}

int nvmlGpmMetricsGet(GpmMetrics *asked) {
    enum { STEPS = 200 };
    char metric[8];
    double sum = 0, span = asked->after->at_s - asked->before->at_s;
    FAULT("gpm_metrics", asked->after->gpu);
    snprintf(metric, sizeof metric, "gpm%d", asked->after->slot);
    for (int step = 0; step < STEPS; step++)
        sum += level_at(metric, asked->after->gpu, asked->before->at_s + span * (step + 0.5) / STEPS, 1);
    for (unsigned i = 0; i < asked->count; i++) {
        asked->metrics[i].code = asked->metrics[i].id <= 2 ? OK : NOT_SUPPORTED;
        asked->metrics[i].value = asked->metrics[i].id == 1 ? sum / STEPS : 0;
    }
    return OK;
}
#endif

int nvmlDeviceGetUtilizationRates(void *handle, Rates *rates) {
    FAULT("util", index_of(handle));
    rates->gpu = (unsigned)number("instant", index_of(handle), level_now("util", index_of(handle)));
    rates->memory = 0;
    return OK;
}

static int engine(void *handle, const char *metric, unsigned *pct, unsigned *period_us) {
    FAULT(metric, index_of(handle));
    *pct = level_now(metric, index_of(handle));
    *period_us = 166666;
    return OK;
}

int nvmlDeviceGetEncoderUtilization(void *h, unsigned *pct, unsigned *us) { return engine(h, "encoder", pct, us); }
int nvmlDeviceGetDecoderUtilization(void *h, unsigned *pct, unsigned *us) { return engine(h, "decoder", pct, us); }
#ifndef OLD
int nvmlDeviceGetJpgUtilization(void *h, unsigned *pct, unsigned *us) { return engine(h, "jpeg", pct, us); }
int nvmlDeviceGetOfaUtilization(void *h, unsigned *pct, unsigned *us) { return engine(h, "ofa", pct, us); }
#endif

/* A NULL answer is the depth, as seen on real drivers; a ring that runs dry is NOT_FOUND. */
int nvmlDeviceGetSamples(void *handle, int kind, unsigned long long newest_us, int *type, unsigned *count, Row *out) {
    static Row rows[MAX_ROWS];
    Rows found = {rows, 0, newest_us};
    int gpu = index_of(handle);
    const char *metric = metric_of(kind);
    char call[32];
    if (!metric) return NOT_SUPPORTED;
    snprintf(call, sizeof call, "%s_samples", metric);
    FAULT(call, gpu);
    if (number("mig", gpu, 0)) return NOT_SUPPORTED;
    if (number("dry", gpu, 0)) return NOT_FOUND;
    *type = 1;
    if (!out) { *count = MAX_ROWS; return OK; }
    snprintf(call, sizeof call, "%s_rows", metric);
    FAULT(call, gpu);
    fill(&found, kind, gpu);
    if (!found.count) return NOT_FOUND;
    if (found.count > *count) return INSUFFICIENT_SIZE;
    memcpy(out, rows, found.count * sizeof *out);
    *count = found.count;
    return OK;
}

static unsigned long long mib(double value) { return (unsigned long long)value << 20; }

static double used_mib(void *handle) {
#ifndef OLD
    if (slot_of(handle) >= 0) return part_mib(index_of(handle), slot_of(handle));
#endif
    return number("mem", index_of(handle), 3);
}

int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    FAULT(slot_of(handle) < 0 ? "mem" : "part_mem", index_of(handle));
    memory->total = mib(81920);
    memory->used = mib(used_mib(handle) + 480);
    memory->free = memory->total - memory->used;
    return OK;
}

#ifndef OLD
int nvmlDeviceGetMemoryInfo_v2(void *handle, Memory2 *memory) {
    if (memory->version != (40 | 2u << 24)) return INVALID_ARGUMENT;
    FAULT(slot_of(handle) < 0 ? "mem2" : "part_mem", index_of(handle));
    memory->total = mib(81920);
    memory->reserved = mib(480);
    memory->used = mib(used_mib(handle));
    memory->free = memory->total - memory->used - memory->reserved;
    return OK;
}
#endif

/* "energy G watts since_s joules": the counter had `joules` at `since_s` and rises by `watts` from there. */
typedef struct { double at_s, joules, watts; } Energy;

static void take_energy(const char *rest, void *out) {
    double watts, since, joules; Energy *energy = out;
    if (sscanf(rest, "%lf %lf %lf", &watts, &since, &joules) != 3 || since > energy->at_s) return;
    energy->joules = joules + watts * (energy->at_s - since);
    energy->watts = watts;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    Energy energy = {now_s(), 0, 70};
    FAULT("power", index_of(handle));
    each("energy", index_of(handle), take_energy, &energy);
    *milliwatts = (unsigned)(energy.watts * 1000);
    return OK;
}

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatts) {
    FAULT("power_limit", index_of(handle));
    *milliwatts = 700000;
    return OK;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoules) {
    double at_s = now_s();
    Energy energy = {at_s, 70 * at_s, 70};
    FAULT("energy", index_of(handle));
    each("energy", index_of(handle), take_energy, &energy);
    *millijoules = (unsigned long long)(energy.joules * 1000);
    return OK;
}

static int processes(void *handle, const char *call, unsigned wanted, unsigned *count, Process *out) {
    FAULT(call, index_of(handle));
    if (!wanted) { *count = 0; return OK; }
    if (!out || *count < wanted) { *count = wanted; return INSUFFICIENT_SIZE; }
    for (unsigned i = 0; i < wanted; i++) out[i] = (Process){4000 + i, mib(300), ~0u, ~0u};
    *count = wanted;
    return OK;
}

#ifdef OLD
#define PROCESSES(kind) nvmlDeviceGet##kind##RunningProcesses_v2
#else
#define PROCESSES(kind) nvmlDeviceGet##kind##RunningProcesses_v3
#endif

int PROCESSES(Compute)(void *handle, unsigned *count, Process *out) {
    return processes(handle, "processes", (unsigned)number("processes", index_of(handle), 0), count, out);
}

int PROCESSES(Graphics)(void *handle, unsigned *count, Process *out) {
    return processes(handle, "graphics", 0, count, out);
}
