#include "scan.h"

void scan_float(const float* from, float* to, long count) { scan_of(from, to, count); }
