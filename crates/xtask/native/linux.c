/*
 * liblfmark_native.so: what mlx-rs and MLX look for on Linux and do not find.
 */
#include <stdint.h>
#include <time.h>

/*
 * mlx-rs seeds its random state with this macOS call on every platform. Ticks
 * are nanoseconds of a clock that, like the original, never goes back.
 */
uint64_t mach_approximate_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#ifdef FORWARD_SCIPY_OPENBLAS
/*
 * MLX's wheel brings the reference BLAS. libmlxc.so needs this library before
 * libmlx.so, so the loader finds these names first and MLX's three calls reach
 * OpenBLAS, whose names carry a prefix in the scipy-openblas32 wheel. Its
 * integers are 32 bits (LP64), as MLX's are.
 */
#define GEMM(name, scalar, matrix)                                                       \
  void scipy_##name(int order, int trans_a, int trans_b, int m, int n, int k,            \
                    scalar alpha, const matrix *a, int lda, const matrix *b, int ldb,    \
                    scalar beta, matrix *c, int ldc);                                    \
  void name(int order, int trans_a, int trans_b, int m, int n, int k, scalar alpha,      \
            const matrix *a, int lda, const matrix *b, int ldb, scalar beta, matrix *c,  \
            int ldc) {                                                                   \
    scipy_##name(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); \
  }

GEMM(cblas_sgemm, float, float)
GEMM(cblas_dgemm, double, double)
GEMM(cblas_cgemm, const void *, void)
#endif
