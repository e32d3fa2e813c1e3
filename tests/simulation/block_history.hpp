#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "messages/types.hpp"

namespace varve::test {

/// What one block of a volume may read as, while several hosts write to it at once: each write has a value that no
/// other has, and takes effect at one moment between its beginning and its end. One that has no answer (its host died)
/// has an open end. Times are of one clock.
class block_history {
public:
  block_history();

  void begin(uint64_t value, int host, boot_time now);
  /// Acknowledged. `durable`: written through (FUA).
  void acknowledged(uint64_t value, bool durable, boot_time now);
  /// A flush of that host that began then has ended well: what it had been told before is durable.
  void flushed(int host, boot_time began);
  /// A flush of that host has failed: nothing that it was told before counts as durable any more, ever.
  void flush_failed(int host, boot_time now);
  /// A machine lost power, which may keep it: what is not durable may be gone, and its sectors by themselves.
  /// Whatever had begun by then: an answer may still have been on its way. Who wrote at that machine is gone with what
  /// it had not flushed: no flush of a successor answers for that.
  void power_lost(boot_time now, int machine = -1);

  /// Why this block cannot read as these values of its sectors, in a read of that time; empty: it can.
  std::string read(const std::vector<uint64_t>& sectors, boot_time began, boot_time now);

  size_t size() const noexcept { return writes_.size(); }

private:
  struct write {
    uint64_t value = 0;
    int host = 0;
    boot_time began{0};
    boot_time ended = boot_time::max(); // it has taken effect by then
    boot_time told = boot_time::max();  // acknowledged
    bool durable = false;
    bool hopeless = false; // a flush that should have covered it failed
    bool torn = false;     // power was lost before it was durable
    bool orphan = false;   // who wrote it lost power before it was durable
  };

  write* find(uint64_t value);
  std::string judge(uint64_t value, boot_time began, boot_time now);
  void forget_old(boot_time now);

  std::vector<write> writes_;
  boot_time power_lost_at_{-1};
};

} // namespace varve::test
