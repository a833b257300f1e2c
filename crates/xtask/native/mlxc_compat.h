/*
 * What mlx-c takes for granted on macOS and Linux lacks. Force-included before
 * every mlx-c source (C++) and before the headers that bindgen reads (C).
 */
#ifndef LFMARK_MLXC_COMPAT_H
#define LFMARK_MLXC_COMPAT_H

#ifdef __cplusplus

#if !defined(__aarch64__)
/* mlx-c names its half types on ARM only; elsewhere they are MLX's own. */
#define HAS_FLOAT16 1
#define HAS_BFLOAT16 1
#include <mlx/types/half_types.h>
typedef mlx::core::float16_t float16_t;
typedef mlx::core::bfloat16_t bfloat16_t;
#endif

#include <version>
#ifndef __cpp_lib_format
/*
 * GCC before 13 has no std::format. mlx-c calls it for error messages only, with
 * plain "{}" fields, which is all that this one understands.
 */
#include <sstream>
#include <string>
#include <string_view>
namespace std {
template <typename... Args>
string format(string_view pattern, const Args&... args) {
  ostringstream out;
  [[maybe_unused]] auto field = [&](const auto& value) {
    auto brace = pattern.find("{}");
    out << pattern.substr(0, brace);
    if (brace != string_view::npos) {
      out << value;
      pattern.remove_prefix(brace + 2);
    } else {
      pattern = {};
    }
  };
  (field(args), ...);
  out << pattern;
  return out.str();
}
} // namespace std
#endif

#else /* C: only bindgen reads this. */

/*
 * mlx-c's own half.h would be skipped (x86-64) or would pull in GCC's ARM
 * intrinsics, which libclang cannot parse. mlx-rs expects a 16-bit float and the
 * bits of a bfloat16.
 */
#define MLX_HALF_H
#define HAS_FLOAT16
#define HAS_BFLOAT16
typedef _Float16 float16_t;
typedef unsigned short bfloat16_t;

#endif
#endif
