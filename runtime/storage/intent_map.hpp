#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace varve {

/// Which regions of a shard file may hold data that its checksum table on disk does not know. A region's mark is
/// durable before its first data write; recovery recomputes marked regions and nothing else. Only rules: no file, no
/// clock.
///
/// `wanted` is what the next header says, `durable` what the header on disk is known to say. durable is within wanted
/// at all times: a mark that a header in flight takes back protects nobody any more.
class intent_map {
public:
  explicit intent_map(size_t regions) : regions_(regions), wanted_((regions + 63) / 64), durable_(wanted_.size()) {}

  size_t regions() const noexcept { return regions_; }
  /// Whether the whole range may be written now.
  bool covers(size_t first, size_t count) const noexcept;
  bool marked(size_t region) const noexcept { return wanted_[region / 64] >> region % 64 & 1; }
  bool any() const noexcept;

  /// Asks for marks with the next header: at first for just what is asked, then for an aligned span around it that
  /// doubles each time, up to the shard, and halves when all is clean: random writes don't pay a sync for each region.
  void want(size_t first, size_t count) noexcept;

  /// A range is about to be changed: a checkpoint under way must leave its marks.
  void touch(size_t first, size_t count) noexcept;

  /// A header is being written: what it is to say.
  std::vector<uint64_t> begin_persist();
  /// It is durable.
  void persisted(const std::vector<uint64_t>& said);

  /// A checkpoint begins: what is durable now, is to be cleared, but for what is touched from now on.
  void begin_clearing();
  /// The table on disk now knows the rest: takes its marks back.
  void finish_clearing() noexcept;
  /// The checkpoint failed: all marks stay.
  void abandon_clearing() noexcept { clearing_.clear(); }

  /// As an existing header says.
  void load(std::span<const std::byte> bits);
  /// Little-endian, bit i of byte i / 8 first.
  static void store(const std::vector<uint64_t>& from, std::span<std::byte> bits);

private:
  size_t regions_;
  std::vector<uint64_t> wanted_;
  std::vector<uint64_t> durable_;
  std::vector<uint64_t> clearing_; // empty: no checkpoint under way
  size_t span_ = 1;
  bool asked_ = false;
};

} // namespace varve
