/* Waiting by a clock of one's choice (glibc 2.30), which `std::condition_variable::wait_for` is compiled to.
 */
#include "forward.h"

#if NEWER_THAN(29)
#include <pthread.h>
#include <time.h>

/* The same moment by the clock that the older function reads. A clock that is set meanwhile makes the wait
   end too early or too late, as it did before there was a choice; callers ask for the time again. */
__attribute__((visibility("hidden"))) int pthread_cond_clockwait(pthread_cond_t* condition,
                                                                 pthread_mutex_t* mutex, clockid_t clock,
                                                                 const struct timespec* until) {
  struct timespec real = *until;
  if (clock != CLOCK_REALTIME) {
    struct timespec now;
    clock_gettime(clock, &now);
    clock_gettime(CLOCK_REALTIME, &real);
    real.tv_sec += until->tv_sec - now.tv_sec;
    real.tv_nsec += until->tv_nsec - now.tv_nsec;
    if (real.tv_nsec < 0) {
      real.tv_nsec += 1000000000L;
      real.tv_sec -= 1;
    } else if (real.tv_nsec >= 1000000000L) {
      real.tv_nsec -= 1000000000L;
      real.tv_sec += 1;
    }
  }
  return pthread_cond_timedwait(condition, mutex, &real);
}
#endif
