/*
 * A libnvidia-ml.so.1 that answers at once: eight GPUs at work, rings of 1/6 s with 30 new rows each time. The stub of
 * the tests reads its script at every call, which would be all that a benchmark sees. At exit the number of calls goes
 * into the file that NVML_STEADY_CALLS names.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { OK = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, GPUS = 8, DEPTH = 100, NEW_ROWS = 30, PERIOD_US = 166667 };

typedef struct { unsigned long long at_us; union { double d; unsigned u; unsigned long long ull; } value; } Row;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } Process;
typedef struct { unsigned gpu, memory; } Rates;

static unsigned long calls;

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("NVML_STEADY_CALLS");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) fprintf(file, "%lu\n", calls);
    if (file) fclose(file);
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; calls++; return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "an error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { calls++; snprintf(text, size, "580.0"); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { calls++; *count = GPUS; return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    calls++;
    *handle = (void *)(intptr_t)(index + 1);
    return OK;
}

int nvmlDeviceGetName(void *h, char *text, unsigned size) { (void)h; calls++; snprintf(text, size, "GPU"); return OK; }

int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    calls++;
    snprintf(text, size, "GPU-%08d", (int)(intptr_t)handle);
    return OK;
}

int nvmlDeviceGetMigMode(void *h, unsigned *now, unsigned *later) { (void)h; calls++; *now = *later = 0; return OK; }
int nvmlDeviceGetUtilizationRates(void *h, Rates *r) { (void)h; calls++; r->gpu = 87; r->memory = 0; return OK; }

static int engine(unsigned *pct, unsigned *us) { calls++; *pct = 0; *us = PERIOD_US; return OK; }
int nvmlDeviceGetEncoderUtilization(void *h, unsigned *pct, unsigned *us) { (void)h; return engine(pct, us); }
int nvmlDeviceGetDecoderUtilization(void *h, unsigned *pct, unsigned *us) { (void)h; return engine(pct, us); }
int nvmlDeviceGetJpgUtilization(void *h, unsigned *pct, unsigned *us) { (void)h; return engine(pct, us); }
int nvmlDeviceGetOfaUtilization(void *h, unsigned *pct, unsigned *us) { (void)h; return engine(pct, us); }

int nvmlDeviceGetSamples(void *h, int kind, unsigned long long since_us, int *type, unsigned *count, Row *out) {
    unsigned rows = since_us ? NEW_ROWS : DEPTH;
    (void)h;
    calls++;
    *type = 1;
    if (!out) { *count = DEPTH; return OK; }
    if (*count < rows) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < rows; i++) {
        out[i].at_us = (since_us ? since_us : 1000000000ULL) + (i + 1ULL) * PERIOD_US;
        out[i].value.ull = kind == 1 ? i % 100 : 0;
    }
    *count = rows;
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *h, Memory *m) {
    (void)h;
    calls++;
    *m = (Memory){80ULL << 30, 60ULL << 30, 20ULL << 30};
    return OK;
}

int nvmlDeviceGetMemoryInfo_v2(void *h, Memory2 *m) {
    (void)h;
    calls++;
    *m = (Memory2){m->version, 80ULL << 30, 1ULL << 29, 60ULL << 30, 19ULL << 30};
    return OK;
}

int nvmlDeviceGetTotalEnergyConsumption(void *h, unsigned long long *mj) { (void)h; *mj = 300 * ++calls; return OK; }

int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *count, Process *out) {
    (void)h;
    calls++;
    if (!out || !*count) { *count = 1; return INSUFFICIENT_SIZE; }
    out[0] = (Process){4000, 1 << 30, ~0u, ~0u};
    *count = 1;
    return OK;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *h, unsigned *count, Process *out) {
    (void)h;
    (void)out;
    calls++;
    *count = 0;
    return OK;
}
