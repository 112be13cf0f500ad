// What the headers of a new libstdc++ take from it and the libstdc++ of older systems lacks, where it is a
// few lines. The rest comes from the compiler's own static library, see KernelCompat.cmake.
#include <ios>
#include <new>
#include <sstream>

#if defined(__GLIBCXX__)
// Default constructors of the string streams (GCC 9).
template std::basic_stringstream<char>::basic_stringstream();
template std::basic_istringstream<char>::basic_istringstream();
template std::basic_ostringstream<char>::basic_ostringstream();

#if _GLIBCXX_RELEASE >= 11
namespace std {
// Called when the size of a new array overflows (GCC 11).
void __throw_bad_array_new_length() { throw bad_array_new_length(); }
}  // namespace std
#endif

#if _GLIBCXX_RELEASE >= 13
namespace std {
// <iostream> names this function (GCC 13) to get a libstdc++ that initialises the standard streams by itself.
// An older one leaves that to objects like the one below, which does nothing where it has been done.
void ios_base_library_init() {}
}  // namespace std
static const std::ios_base::Init standard_streams;
#endif
#endif
