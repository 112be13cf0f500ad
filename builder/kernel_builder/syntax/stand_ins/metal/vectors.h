// Metal's numbers and vectors, with constructors, operators and the usual swizzles.
#pragma once

using uint = unsigned int;
using ushort = unsigned short;
using uchar = unsigned char;
using ulong = unsigned long;
using half = _Float16;
using bfloat = __bf16;
using size_t = unsigned long;
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long;
using uint64_t = unsigned long;
#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))
#define HUGE_VALF (__builtin_inff())
#define M_PI_F 3.14159265358979323846f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LN2_F 0.69314718055994530942f
#define FLT_MAX 3.402823466e38f
#define FLT_MIN 1.175494351e-38f
#define HALF_MAX ((half)65504.0f)
#define INT_MAX 2147483647
#define UINT_MAX 4294967295u

namespace metal {

template <typename T, int N> struct vec;

template <typename T> struct vec<T, 2> {
    union { struct { T x, y; }; struct { T r, g; }; T at[2]; };
    vec() = default;
    template <typename... A> constexpr vec(A... parts) : at{} {}
    template <typename U> constexpr vec& operator=(U) { return *this; }
    T& operator[](int index);
    const T& operator[](int index) const;
    vec<T, 2> xy() const;
};
template <typename T> struct vec<T, 3> {
    union { struct { T x, y, z; }; struct { T r, g, b; }; vec<T, 2> xy, rg; T at[4]; };
    vec() = default;
    template <typename... A> constexpr vec(A... parts) : at{} {}
    T& operator[](int index);
    const T& operator[](int index) const;
};
template <typename T> struct vec<T, 4> {
    union {
        struct { T x, y, z, w; };
        struct { T r, g, b, a; };
        vec<T, 3> xyz, rgb;
        vec<T, 2> xy, rg, lo, hi, zw, even, odd;
        T at[4];
    };
    vec() = default;
    template <typename... A> constexpr vec(A... parts) : at{} {}
    T& operator[](int index);
    const T& operator[](int index) const;
};

template <typename T> struct metal_shape { using mask = bool; static constexpr int size = 1; };
template <typename T, int N> struct metal_shape<vec<T, N>> { using mask = vec<bool, N>; static constexpr int size = N; };
template <typename T> using metal_mask = typename metal_shape<T>::mask;
template <typename A, typename B, bool FirstIsVector = (metal_shape<A>::size > 1), bool SecondIsVector = (metal_shape<B>::size > 1)>
struct metal_common_of { using type = decltype(A() + B()); };
template <typename A, typename B> struct metal_common_of<A, B, true, false> { using type = A; };
template <typename A, typename B> struct metal_common_of<A, B, false, true> { using type = B; };
template <typename A> struct metal_common_of<A, A, true, true> { using type = A; };
template <typename A> struct metal_common_of<A, A, false, false> { using type = A; };
template <typename A, typename B> using metal_common = typename metal_common_of<A, B>::type;

#define METAL_OPERATOR(op) \
    template <typename T, int N> vec<T, N> operator op(vec<T, N>, vec<T, N>); \
    template <typename T, int N, typename S> vec<T, N> operator op(vec<T, N>, S); \
    template <typename T, int N, typename S> vec<T, N> operator op(S, vec<T, N>); \
    template <typename T, int N, typename S> vec<T, N>& operator op##=(vec<T, N>&, S);
METAL_OPERATOR(+) METAL_OPERATOR(-) METAL_OPERATOR(*) METAL_OPERATOR(/) METAL_OPERATOR(%)
METAL_OPERATOR(&) METAL_OPERATOR(|) METAL_OPERATOR(^) METAL_OPERATOR(<<) METAL_OPERATOR(>>)
#undef METAL_OPERATOR
#define METAL_COMPARISON(op) \
    template <typename T, int N> vec<bool, N> operator op(vec<T, N>, vec<T, N>); \
    template <typename T, int N, typename S> vec<bool, N> operator op(vec<T, N>, S); \
    template <typename T, int N, typename S> vec<bool, N> operator op(S, vec<T, N>);
METAL_COMPARISON(==) METAL_COMPARISON(!=) METAL_COMPARISON(<) METAL_COMPARISON(>) METAL_COMPARISON(<=) METAL_COMPARISON(>=)
METAL_COMPARISON(&&) METAL_COMPARISON(||)
#undef METAL_COMPARISON
template <typename T, int N> vec<T, N> operator-(vec<T, N>);
template <typename T, int N> vec<T, N> operator~(vec<T, N>);
template <typename T, int N> vec<bool, N> operator!(vec<T, N>);

#define METAL_VECTORS(type) using type##2 = vec<type, 2>; using type##3 = vec<type, 3>; using type##4 = vec<type, 4>;
METAL_VECTORS(bool) METAL_VECTORS(char) METAL_VECTORS(uchar) METAL_VECTORS(short) METAL_VECTORS(ushort)
METAL_VECTORS(int) METAL_VECTORS(uint) METAL_VECTORS(long) METAL_VECTORS(ulong)
METAL_VECTORS(half) METAL_VECTORS(bfloat) METAL_VECTORS(float)
#undef METAL_VECTORS
using packed_float4 = float4;
using packed_half4 = half4;
using packed_float2 = float2;
using packed_float3 = float3;

}  // namespace metal

using namespace metal;
