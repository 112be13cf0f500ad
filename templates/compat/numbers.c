/* Reading numbers: C23 lets them begin with `0b`, and since glibc 2.38 its header renames the functions for
 * that. */
#include "forward.h"

#if NEWER_THAN(37)
FORWARD_TO(__isoc23_fscanf, __isoc99_fscanf, "2.7")
FORWARD_TO(__isoc23_scanf, __isoc99_scanf, "2.7")
FORWARD_TO(__isoc23_sscanf, __isoc99_sscanf, "2.7")
FORWARD_TO(__isoc23_strtol, strtol, BASE)
FORWARD_TO(__isoc23_strtoll, strtoll, BASE)
FORWARD_TO(__isoc23_strtoul, strtoul, BASE)
FORWARD_TO(__isoc23_strtoull, strtoull, BASE)
FORWARD_TO(__isoc23_vsscanf, __isoc99_vsscanf, "2.7")
#endif
