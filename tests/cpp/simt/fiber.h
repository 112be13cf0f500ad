// A thread of control with a stack of its own. It starts by ucontext and switches by jumps: those save no
// signal mask, which would be a call of the system, and there are millions of switches. Compile without
// _FORTIFY_SOURCE, whose longjmp takes a jump to another stack for an error.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace simt {

class Fiber {
 public:
  // The fiber will run `entry`, which must end in pause(), on the stack of this number; stacks are kept and
  // reused.
  void prepare(size_t number, void (*entry)()) {
    getcontext(&start_);
    start_.uc_stack.ss_sp = stack(number);
    start_.uc_stack.ss_size = kStackBytes;
    start_.uc_link = nullptr;
    makecontext(&start_, entry, 0);
    is_started_ = false;
  }

  // Runs the fiber until it pauses.
  __attribute__((noinline)) void resume() {
    if (_setjmp(resumer_) != 0) return;
    if (is_started_) _longjmp(here_, 1);
    is_started_ = true;
    setcontext(&start_);
  }
  __attribute__((noinline)) void pause() {
    if (_setjmp(here_) == 0) _longjmp(resumer_, 1);
  }

 private:
  static constexpr size_t kStackBytes = 128 << 10;

  static uint8_t* stack(size_t number) {
    static std::vector<std::unique_ptr<uint8_t[]>> stacks;
    while (stacks.size() <= number) stacks.emplace_back(new uint8_t[kStackBytes]);
    return stacks[number].get();
  }

  ucontext_t start_;
  jmp_buf resumer_;
  jmp_buf here_;
  bool is_started_ = false;
};

}  // namespace simt
