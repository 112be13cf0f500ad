// Additions to global memory in any order: done at once, or when the grid has ended, in an order of chance. A
// kernel that reads what blocks beside it have added, or writes there in another way, is wrong in one of the
// two.
#pragma once

#include <algorithm>
#include <cstddef>
#include <random>
#include <vector>

namespace simt {

class PendingSums {
 public:
  void add(float* to, float number) { sums_.push_back({to, number}); }
  void finish(std::mt19937* random) {
    std::shuffle(sums_.begin(), sums_.end(), *random);
    for (const Sum& sum : sums_) *sum.to += sum.number;
    sums_.clear();
  }

 private:
  struct Sum {
    float* to;
    float number;
  };
  std::vector<Sum> sums_;
};

// Of the grid that runs now.
inline PendingSums& pending_sums() {
  static PendingSums sums;
  return sums;
}

}  // namespace simt
