// What the stand-in of Metal's library and the tests ask of the emulator. The code on this side is
// instrumented, so nothing here touches memory that a shader does not.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

struct uint3;

namespace msl {

struct MatrixPlace {
  int row, column;
};
MatrixPlace matrix_place();
void barrier();
float sum(float x);
float shuffle_xor(float x, unsigned mask);
void multiply_add(const float (&a)[2], const float (&b)[2], float (&c)[2]);
// Lanes must agree in this before their next meeting.
void note_uniform(const void* address, unsigned long stride, bool transposed);

// The arguments of a kernel that runs: buffers in the order of their slots, then threadgroup memory, then who
// the thread is.
struct Arguments {
  void* pointers[24];
  unsigned position[3];
};
extern Arguments arguments;
unsigned thread_number(int which);  // 0: in the threadgroup, 1: in the simdgroup, 2: the simdgroup

struct Reader {
  int pointer = 0, number = 0;
};
template <typename A>
struct Argument;
template <typename T>
struct Argument<T*> {
  static T* read(Reader& reader) { return static_cast<T*>(arguments.pointers[reader.pointer++]); }
};
template <typename T>
struct Argument<const T&> {
  static const T& read(Reader& reader) {
    return *static_cast<const T*>(arguments.pointers[reader.pointer++]);
  }
};
template <>
struct Argument<unsigned> {
  static unsigned read(Reader& reader) { return thread_number(reader.number++); }
};
template <>
struct Argument<uint3> {
  template <typename Position = uint3>
  static Position read(Reader&) {
    return Position{arguments.position[0], arguments.position[1], arguments.position[2]};
  }
};

template <typename... A>
struct Invoker {
  // Braces keep the order.
  struct Call {
    template <typename Function>
    Call(Function* function, A... arguments) {
      function(arguments...);
    }
  };
  static void invoke(void (*function)()) {
    Reader reader;
    Call{reinterpret_cast<void (*)(A...)>(function), Argument<A>::read(reader)...};
  }
};

typedef void (*Invoke)(void (*)());
bool add_kernel(const char* name, void (*function)(), Invoke invoke);
template <typename... A>
bool add_kernel(const char* name, void (*function)(A...)) {
  return add_kernel(name, reinterpret_cast<void (*)()>(function), &Invoker<A...>::invoke);
}
std::vector<std::string> kernel_names();

// Memory that a launch may use.
struct Memory {
  void* data;
  size_t bytes;
};

// Runs every threadgroup of a grid, one after the other. Returns whether none complained.
bool run(const std::string& kernel, const std::array<int64_t, 3>& grid, int threads, int threadgroup_bytes,
         const std::vector<Memory>& buffers);

}  // namespace msl
