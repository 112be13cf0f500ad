#include "scan.cuh"


template __global__ void scan_kernel<BFloat16, 128, false, 64>(Call);

template __global__ void scan_kernel<BFloat16, 128, false, 128>(Call);

// BFLOAT16 whole, rows of 256 bytes
int braces[2][2] = { {1, 2}, {3, 4} }; int same[1][1] = {{1}};
