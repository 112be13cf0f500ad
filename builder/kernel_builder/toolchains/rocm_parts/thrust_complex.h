// What torch's headers need of rocThrust: a complex number that they convert to and from.
#pragma once

#include <hip/hip_runtime.h>

namespace thrust {

template <typename T>
class complex {
  public:
    __host__ __device__ complex(T real = T(), T imag = T()) : real_(real), imag_(imag) {}
    template <typename U>
    __host__ __device__ complex(const complex<U>& other) : real_(T(other.real())), imag_(T(other.imag())) {}
    __host__ __device__ T real() const { return real_; }
    __host__ __device__ T imag() const { return imag_; }

  private:
    T real_;
    T imag_;
};

template <typename T>
__host__ __device__ complex<T> polar(const T& length, const T& angle) {
    return complex<T>(length * ::cos(angle), length * ::sin(angle));
}

}  // namespace thrust
