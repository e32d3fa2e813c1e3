#include "tests/simulation/block_history.hpp"

#include <algorithm>

namespace varve::test {

block_history::block_history() {
  // Never written: zeros.
  write x;
  x.ended = x.told = boot_time{0};
  x.durable = true;
  writes_.push_back(x);
}

block_history::write* block_history::find(uint64_t value) {
  for (auto& x : writes_)
    if (x.value == value)
      return &x;
  return nullptr;
}

void block_history::begin(uint64_t value, int host, boot_time now) {
  write x;
  x.value = value;
  x.host = host;
  x.began = now;
  writes_.push_back(x);
}

void block_history::acknowledged(uint64_t value, bool durable, boot_time now) {
  if (auto* x = find(value)) {
    x->told = now;
    x->durable |= durable;
    if (x->durable || x->began > power_lost_at_)
      x->ended = std::min(x->ended, now);
    else
      x->torn = true;
  }
  forget_old(now);
}

void block_history::flushed(int host, boot_time began) {
  for (auto& x : writes_)
    if (x.host == host && x.told < began && !x.hopeless && !x.orphan) {
      x.durable = true;
      x.torn = false;
      x.ended = std::min(x.ended, x.told);
    }
}

void block_history::flush_failed(int host, boot_time now) {
  for (auto& x : writes_)
    if (x.host == host && x.began < now && !x.durable)
      x.hopeless = true;
}

void block_history::power_lost(boot_time now, int machine) {
  power_lost_at_ = now;
  for (auto& x : writes_)
    if (!x.durable) {
      x.ended = boot_time::max();
      x.torn = true;
      x.orphan |= x.host == machine;
    }
}

std::string block_history::judge(uint64_t value, boot_time began, boot_time now) {
  auto* of = find(value);
  if (!of)
    return "value " + std::to_string(value) + " was never written here, or is long gone";
  if (of->began > now)
    return "value " + std::to_string(value) + " was not written yet";
  // One that power loss may have taken has not come back later than it was acknowledged, if it stands at all.
  const auto in_effect = std::min(of->ended, of->told);
  for (const auto& x : writes_)
    // A whole write lies between it and this read.
    if (in_effect < x.began && x.ended < began)
      return "value " + std::to_string(value) + " was written over by " + std::to_string(x.value);
  return {};
}

std::string block_history::read(const std::vector<uint64_t>& sectors, boot_time began, boot_time now) {
  const auto first = sectors.front();
  const bool whole = std::all_of(sectors.begin(), sectors.end(), [&](auto x) { return x == first; });
  if (!whole && std::none_of(writes_.begin(), writes_.end(), [](auto& x) { return x.torn; }))
    return "it is torn";
  for (auto value : sectors)
    if (auto why = judge(value, began, now); !why.empty())
      return why;
  if (whole) {
    // Whoever has seen it knows that it has happened; but if power was lost meanwhile, it may be gone again.
    auto* of = find(first);
    if (of->durable || began > power_lost_at_)
      of->ended = std::min(of->ended, now);
    forget_old(now);
  }
  return {};
}

void block_history::forget_old(boot_time now) {
  if (writes_.size() < 8)
    return;
  const auto copy = writes_;
  std::erase_if(writes_, [&](const auto& x) {
    return std::any_of(copy.begin(), copy.end(), [&](const auto& y) {
      // Nothing takes that one back; and no read that began before is under way for so long.
      return y.durable && x.ended < y.began && y.ended + std::chrono::minutes{5} < now;
    });
  });
}

} // namespace varve::test
