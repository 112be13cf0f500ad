/* Mathematics: versions of glibc 2.29 to 2.38 that differ from the first ones in how they report errors. */
#include "forward.h"

#if NEWER_THAN(28)
FORWARD(exp, BASE)
FORWARD(exp2, BASE)
FORWARD(log, BASE)
FORWARD(log2, BASE)
FORWARD(pow, BASE)
#endif
#if NEWER_THAN(34)
FORWARD(hypot, BASE)
FORWARD(hypotf, BASE)
#endif
#if NEWER_THAN(37)
FORWARD(fmod, BASE)
FORWARD(fmodf, BASE)
#endif
