/*
 * Run once at the end of set-up: loads the libraries as a program will, multiplies
 * two matrices on MLX's default device and prints the rate in GFLOP/s.
 */
#include <mlx/c/mlx.h>
#include <stdio.h>
#include <time.h>

enum { SIZE = 512, REPEATS = 8 };

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(void) {
  mlx_device device = mlx_device_new();
  if (mlx_get_default_device(&device)) return 1;
  mlx_stream stream = mlx_stream_new();
  if (mlx_get_default_stream(&stream, device)) return 1;

  int shape[2] = {SIZE, SIZE};
  mlx_array a = mlx_array_new(), product = mlx_array_new();
  if (mlx_ones(&a, shape, 2, MLX_FLOAT32, stream) || mlx_array_eval(a)) return 1;

  /* The best of several: the first also starts threads and reads pages in. */
  double best = 1e9;
  for (int i = 0; i < REPEATS; ++i) {
    double start = seconds();
    if (mlx_matmul(&product, a, a, stream) || mlx_array_eval(product)) return 1;
    double took = seconds() - start;
    if (took < best) best = took;
  }
  const float *values = mlx_array_data_float32(product);
  if (!values || values[0] != (float)SIZE) {
    fprintf(stderr, "a product of ones must be %d\n", SIZE);
    return 1;
  }
  printf("%.1f\n", 2.0 * SIZE * SIZE * SIZE / best * 1e-9);
  return 0;
}
