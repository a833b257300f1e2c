/*
 * liblfmark_native.so: what mlx-rs and MLX look for on Linux and do not find.
 */
#include <stdatomic.h>
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
void scipy_openblas_set_num_threads(int count);
int scipy_openblas_get_num_threads(void);

/*
 * A small product runs on one thread. OpenBLAS hands out work by spinning, so
 * on a machine with anything else to do a product of a millisecond waits tens
 * of them for a sleeping thread: 500 steps of the embedded model fell from 28
 * to 3 iterations a second beside one busy process. Small means that one core
 * holds it in its cache and finishes it in about two milliseconds.
 */
enum { SMALL_ELEMENTS = 1 << 19, SMALL_PRODUCTS = 1 << 26 };

static int allowed_threads;
static atomic_int current_threads;

__attribute__((constructor)) static void remember_threads(void) {
  allowed_threads = scipy_openblas_get_num_threads();
  current_threads = allowed_threads;
}

static void use_threads_for(int64_t m, int64_t n, int64_t k) {
  int small = m * k + k * n + m * n < SMALL_ELEMENTS && m * n * k < SMALL_PRODUCTS;
  int wanted = small ? 1 : allowed_threads;
  if (atomic_exchange(&current_threads, wanted) != wanted)
    scipy_openblas_set_num_threads(wanted);
}

#define GEMM(name, scalar, matrix)                                                       \
  void scipy_##name(int order, int trans_a, int trans_b, int m, int n, int k,            \
                    scalar alpha, const matrix *a, int lda, const matrix *b, int ldb,    \
                    scalar beta, matrix *c, int ldc);                                    \
  void name(int order, int trans_a, int trans_b, int m, int n, int k, scalar alpha,      \
            const matrix *a, int lda, const matrix *b, int ldb, scalar beta, matrix *c,  \
            int ldc) {                                                                   \
    use_threads_for(m, n, k);                                                            \
    scipy_##name(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); \
  }

GEMM(cblas_sgemm, float, float)
GEMM(cblas_dgemm, double, double)
GEMM(cblas_cgemm, const void *, void)
#endif
