#include "scan.cuh"


template __global__ void scan_kernel<BFloat16, 128, true, 64>(Call);

template __global__ void scan_kernel<BFloat16, 128, true, 128>(Call);

// BFLOAT16 masked, rows of 256 bytes
int braces[2][2] = { {1, 2}, {3, 4} }; int same[1][1] = {{1}};
