// Sends a call to the kernels of its element type, and knows which matrix instructions a GPU has.

#include <atomic>
#include <cstring>

#include "launch.h"

#include "../gpu/rows.h"

namespace flash_attn_gpu {

void forward_bfloat16(const ForwardCall& call, int64_t longest_query, void* stream);
void forward_float16(const ForwardCall& call, int64_t longest_query, void* stream);
void backward_bfloat16(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream);
void backward_float16(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream);

namespace {

FamilyName family_of(int device) {
  hipDeviceProp_t properties;
  check(hipGetDeviceProperties(&properties, device), "asking for the kind of the GPU");
  const char* arch = properties.gcnArchName;  // with its features: gfx90a:sramecc+:xnack-
  const auto is = [arch](const char* prefix) { return std::strncmp(arch, prefix, std::strlen(prefix)) == 0; };
  if (is("gfx90a") || is("gfx942") || is("gfx950")) return FamilyName::kMfma;
  // gfx117x has the layout of gfx12, and gfx125x has other products: no names of whole generations here.
  if (is("gfx110") || is("gfx115")) return FamilyName::kWmmaGfx11;
  if (is("gfx120")) return FamilyName::kWmmaGfx12;
  throw std::runtime_error(
      std::string("flash attention needs the matrix instructions of gfx90a, gfx942, gfx110x, gfx115x or "
                  "gfx120x; this GPU is ") +
      arch);
}

}  // namespace

FamilyName family_of_current_gpu() {
  constexpr int kMostDevices = 64;
  static std::atomic<int> known[kMostDevices];  // 0: not asked yet; properties take long to get
  int device = 0;
  check(hipGetDevice(&device), "asking for the current GPU");
  if (device >= kMostDevices) return family_of(device);
  const int answer = known[device];
  if (answer != 0) return static_cast<FamilyName>(answer - 1);
  const FamilyName family = family_of(device);
  known[device] = static_cast<int>(family) + 1;
  return family;
}

void attention_forward(const ForwardCall& call, int64_t longest_query, void* stream) {
  if (call.problem.element == Element::kBFloat16) return forward_bfloat16(call, longest_query, stream);
  forward_float16(call, longest_query, stream);
}

int64_t dq_sums_size(const BackwardCall&, int64_t) { return 0; }

void attention_backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream) {
  if (call.problem.element == Element::kBFloat16)
    return backward_bfloat16(call, longest_query, longest_key, stream);
  backward_float16(call, longest_query, longest_key, stream);
}

void append_rows(const AppendCall& call, void* stream) {
  StreamLauncher{static_cast<hipStream_t>(stream)}.run<Append>(Grid{call.room, call.kv_heads, call.batch},
                                                               call);
}

void attention_combine(const CombineCall& call, void* stream) {
  launch_combine<Combine>(call, StreamLauncher{static_cast<hipStream_t>(stream)});
}

}  // namespace flash_attn_gpu
