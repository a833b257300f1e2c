/*
 * Run once at the end of set-up: loads the libraries as a program will, multiplies two matrices on
 * MLX's default device in f32 and in bf16, compares with the product that the host computes, and
 * prints the rate in f32 in GFLOP/s.
 */
#include <math.h>
#include <mlx/c/mlx.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SIZE = 512, REPEATS = 8 };

/* Small integers, which both types hold; no row or column is like the next. */
static int left(int i, int k) { return (i * k + 2 * i + k) % 7 - 2; }
static int right(int k, int j) { return (k * j + 3 * k + j * j) % 7 - 3; }

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static mlx_array matrix(int (*value)(int, int)) {
  static float values[SIZE * SIZE];
  for (int i = 0; i < SIZE; ++i)
    for (int j = 0; j < SIZE; ++j) values[i * SIZE + j] = (float)value(i, j);
  return mlx_array_new_data(values, (int[]){SIZE, SIZE}, 2, MLX_FLOAT32);
}

/* What the host computes: integers that f32 holds exactly. */
static int expected[SIZE][SIZE], largest;

static void expect(void) {
  for (int i = 0; i < SIZE; ++i)
    for (int j = 0; j < SIZE; ++j) {
      int sum = 0;
      for (int k = 0; k < SIZE; ++k) sum += left(i, k) * right(k, j);
      expected[i][j] = sum;
      if (abs(sum) > largest) largest = abs(sum);
    }
}

/* Whether a number of the product is further off than this share of the largest. */
static int wrong(const char *type, mlx_array product, double tolerance) {
  const float *actual = mlx_array_data_float32(product);
  if (!actual) return 1;
  for (int i = 0; i < SIZE; ++i)
    for (int j = 0; j < SIZE; ++j) {
      double value = actual[i * SIZE + j];
      /* So that what is not a number is wrong too. */
      if (fabs(value - expected[i][j]) <= tolerance * largest) continue;
      fprintf(stderr, "a matrix product in %s is wrong: row %d, column %d is %g, expected %d\n",
              type, i, j, value, expected[i][j]);
      return 1;
    }
  return 0;
}

int main(void) {
  mlx_device device = mlx_device_new();
  if (mlx_get_default_device(&device)) return 1;
  mlx_stream stream = mlx_stream_new();
  if (mlx_get_default_stream(&stream, device)) return 1;

  mlx_array a = matrix(left), b = matrix(right), product = mlx_array_new();

  /* The best of several: the first also starts threads and reads pages in. */
  double best = 1e9;
  for (int i = 0; i < REPEATS; ++i) {
    double start = seconds();
    if (mlx_matmul(&product, a, b, stream) || mlx_array_eval(product)) return 1;
    double took = seconds() - start;
    if (took < best) best = took;
  }
  expect();
  if (wrong("f32", product, 0.0)) return 1;

  if (mlx_astype(&a, a, MLX_BFLOAT16, stream) || mlx_astype(&b, b, MLX_BFLOAT16, stream) ||
      mlx_matmul(&product, a, b, stream) || mlx_astype(&product, product, MLX_FLOAT32, stream) ||
      mlx_array_eval(product))
    return 1;
  /* bf16 has 8 bits, and sums of parts may be rounded to them too. */
  if (wrong("bf16", product, 1.0 / 128)) return 1;

  printf("%.1f\n", 2.0 * SIZE * SIZE * SIZE / best * 1e-9);
  return 0;
}
