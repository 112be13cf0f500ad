// What comes with Metal beside it.
#pragma once
#include <Metal/Metal.h>
