#pragma once

#include <memory>
#include <string>

#include "runtime/reactor/ring.hpp"

namespace varve {

enum class ring_kind : uint8_t {
  /// io_uring where it is permitted, else threads.
  automatic,
  io_uring,
  threads,
};

struct ring_options {
  ring_kind kind = ring_kind::automatic;
  /// io_uring: length of the submission queue; more than that at once costs a system call more.
  uint32_t entries = 256;
  /// threads: how many carry out file operations.
  uint32_t threads = 4;
  /// io_uring: how long to look for completions before sleeping, after a wait that brought some; 0 for not at all. An
  /// idle ring never looks, and one that looks in vain again and again hardly does.
  boot_time spin{std::chrono::microseconds{50}};
};

struct made_ring {
  /// Null when `kind` is io_uring and that is not to be had.
  std::unique_ptr<varve::ring> ring;
  /// Why io_uring is not used, for the log; empty when it is, or was not asked for.
  std::string refusal;
};

/// May be made on one thread and used on another: it belongs to the thread that first waits on it. Before that thread
/// ends or the ring is destroyed, whoever has operations in flight cancels and awaits them; what is left then is
/// given up without its `complete`.
made_ring make_ring(const ring_options& options);

/// Null when refused; then `refusal` says why.
std::unique_ptr<ring> make_uring_ring(const ring_options& options, std::string& refusal);
std::unique_ptr<ring> make_threads_ring(const ring_options& options);

} // namespace varve
