#include "runtime/storage/intent_map.hpp"

#include <algorithm>
#include <cassert>

namespace varve {

namespace {

void set(std::vector<uint64_t>& bits, size_t first, size_t count) noexcept {
  for (auto i = first; i < first + count; ++i)
    bits[i / 64] |= uint64_t{1} << i % 64;
}

void reset(std::vector<uint64_t>& bits, size_t first, size_t count) noexcept {
  for (auto i = first; i < first + count; ++i)
    bits[i / 64] &= ~(uint64_t{1} << i % 64);
}

} // namespace

bool intent_map::covers(size_t first, size_t count) const noexcept {
  for (auto i = first; i < first + count; ++i)
    if (!(durable_[i / 64] >> i % 64 & 1))
      return false;
  return true;
}

bool intent_map::any() const noexcept {
  return std::any_of(wanted_.begin(), wanted_.end(), [](uint64_t x) { return x != 0; });
}

void intent_map::want(size_t first, size_t count) noexcept {
  auto begin = first / span_ * span_;
  auto end = (first + count + span_ - 1) / span_ * span_;
  set(wanted_, begin, std::min(end, regions_) - begin);
  asked_ = true;
}

void intent_map::touch(size_t first, size_t count) noexcept {
  if (!clearing_.empty())
    reset(clearing_, first, count);
}

std::vector<uint64_t> intent_map::begin_persist() {
  // Requests that one header serves together count once.
  if (asked_)
    span_ = std::min(span_ * 2, regions_);
  asked_ = false;
  return wanted_;
}

void intent_map::persisted(const std::vector<uint64_t>& said) {
  for (size_t i = 0; i < said.size(); ++i)
    durable_[i] = said[i] & wanted_[i];
}

void intent_map::begin_clearing() {
  clearing_ = durable_;
}

void intent_map::finish_clearing() noexcept {
  for (size_t i = 0; i < clearing_.size(); ++i) {
    wanted_[i] &= ~clearing_[i];
    durable_[i] &= wanted_[i];
  }
  clearing_.clear();
  // Who wrote at random before will again; who did not is back at one region soon.
  if (!any())
    span_ = std::max<size_t>(1, span_ / 2);
}

void intent_map::load(std::span<const std::byte> bits) {
  for (size_t i = 0; i < regions_; ++i)
    if (std::to_integer<unsigned>(bits[i / 8]) >> i % 8 & 1)
      set(wanted_, i, 1);
  durable_ = wanted_;
}

void intent_map::store(const std::vector<uint64_t>& from, std::span<std::byte> bits) {
  for (size_t i = 0; i < from.size() * 8 && i < bits.size(); ++i)
    bits[i] = static_cast<std::byte>(from[i / 8] >> i % 8 * 8);
}

} // namespace varve
