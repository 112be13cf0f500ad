#include "scan.h"

void scan_double(const double* from, double* to, long count) { scan_of(from, to, count); }
