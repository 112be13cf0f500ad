// Who knows what has happened: vector clocks. Threads, their asynchronous copies and products, and the
// barriers that count bytes are agents; each counts its own steps. An event is known to whoever has met,
// directly or through others, somebody who knew it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace simt {

struct Event {
  int agent = -1;  // -1: nothing has happened
  uint32_t time = 0;
};

class Clock {
 public:
  explicit Clock(int agents) : times_(static_cast<size_t>(agents), 0) {}
  uint32_t& operator[](int agent) { return times_[static_cast<size_t>(agent)]; }
  bool knows(Event event) const {
    return event.agent < 0 || times_[static_cast<size_t>(event.agent)] >= event.time;
  }
  void learn(const Clock& other) {
    for (size_t i = 0; i < times_.size(); ++i) times_[i] = std::max(times_[i], other.times_[i]);
  }
  void forget() { std::fill(times_.begin(), times_.end(), 0u); }

 private:
  std::vector<uint32_t> times_;
};

// A place where agents meet: what they know is gathered until it opens.
struct Gathering {
  explicit Gathering(int agents) : coming(agents), opened(agents) {}
  void open() {
    opened = coming;
    coming.forget();
  }
  Clock coming;
  Clock opened;
};

}  // namespace simt
