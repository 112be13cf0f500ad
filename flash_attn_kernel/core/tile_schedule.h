// How the work is cut. What can change a bit of the result depends on the problem's shape alone, never on the
// number of threads, so a result is the same on one core and on a hundred.
#pragma once

#include "dialect.h"
#include "row_packing.h"

namespace flash_attn {

// Enough tasks to keep a large machine busy, few enough that each amortises the copy of its keys.
FA_FN int rows_per_task(Int64 total_rows, int widest, int narrowest, int wanted_tasks) {
  int rows = widest;
  while (rows > narrowest && total_rows < static_cast<Int64>(rows) * wanted_tasks) rows /= 2;
  return rows < narrowest ? narrowest : rows;
}

// Rows cut into equal parts, each of at most `most` rows and a multiple of `grain`, which divides `most`.
FA_FN int even_part(int rows, int most, int grain) {
  const int parts = ceil_div(rows, most);
  return parts == 0 ? grain : round_up(ceil_div(rows, parts), grain);
}

// Split-KV: how many keys one task of a short query reads. `tasks` is the number of tasks there would be
// without splitting. Each split costs a partial output row, so a chunk is never short.
FA_FN int keys_per_split(int key_len, Int64 tasks, int shortest, int wanted_tasks, int key_block) {
  if (tasks >= wanted_tasks || key_len <= shortest) return key_len;
  const Int64 wanted_splits = (wanted_tasks + tasks - 1) / (tasks > 0 ? tasks : 1);
  Int64 keys = (key_len + wanted_splits - 1) / wanted_splits;
  if (keys < shortest) keys = shortest;
  keys = (keys + key_block - 1) / key_block * key_block;
  return keys < key_len ? static_cast<int>(keys) : key_len;
}

}  // namespace flash_attn
