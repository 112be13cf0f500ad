// What the headers of a new libstdc++ take from it and the libstdc++ of older systems lacks, where it is a
// few lines. The rest comes from the compiler's own static library, see KernelCompat.cmake.
#include <exception>
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

// Counting who holds an exception, which headers do since GCC 11. Older ones call the constructor and the destructor
// that every libstdc++ has.
namespace __exception_ptr {
void copy_exception(void* copy, const exception_ptr* held) __asm__("_ZNSt15__exception_ptr13exception_ptrC1ERKS0_");
void drop_exception(exception_ptr* held) __asm__("_ZNSt15__exception_ptr13exception_ptrD1Ev");

void exception_ptr::_M_addref() noexcept {
  alignas(exception_ptr) char copy[sizeof(exception_ptr)]; // never destroyed, so it goes on counting
  copy_exception(copy, this);
}
void exception_ptr::_M_release() noexcept { drop_exception(this); }
}  // namespace __exception_ptr
}  // namespace std

#if __cplusplus > 201703L && _GLIBCXX_USE_CXX11_ABI
// Taking the text of a string stream since C++20 (GCC 11).
template std::string std::basic_stringbuf<char>::str() const&;
template std::string std::basic_stringbuf<char>::str() &&;
#endif
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
