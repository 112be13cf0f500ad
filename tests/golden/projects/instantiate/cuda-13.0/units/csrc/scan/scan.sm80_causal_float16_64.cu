#include "scan.cuh"


template __global__ void scan_kernel<Float16, 64, true, 64>(Call);

template __global__ void scan_kernel<Float16, 64, true, 128>(Call);

// FLOAT16 whole, rows of 128 bytes
int braces[2][2] = { {1, 2}, {3, 4} }; int same[1][1] = {{1}};
