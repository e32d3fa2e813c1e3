#pragma once

#include <compare>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/storage/file_shard.hpp"

namespace varve {

/// Names one shard file of a store.
struct shard_file_name {
  shard_id id;
  varve::generation generation;

  auto operator<=>(const shard_file_name&) const noexcept = default;
};

/// "v<volume>-s<index>-g<generation>.shard", in hexadecimal with leading zeros, so that names sort as shards do.
std::string to_string(const shard_file_name& x);
std::optional<shard_file_name> parse_shard_file_name(std::string_view x);

/// A shard's file is made under its name with this behind it, and renamed once it is whole.
inline constexpr std::string_view unfinished_suffix = ".new";

/// Deletes what crashes during creations left behind. Before the first store of the folder is opened: creations under
/// way, on whatever reactor, look the same. False with a `problem`. Blocks: not for reactors.
bool sweep_unfinished_shards(const std::string& directory, std::string& problem);

/// The shards of a directory. While a shard has marks and is idle, the store checkpoints it in the background.
class file_store final : public shard_store {
public:
  file_store(reactor& on, shard_store_options options);
  /// Its tasks have ended. Shards that are open keep working, without idle checkpoints; the ring is to be stepped once
  /// more, to end the timer.
  ~file_store() override;

  const shard_store_options& options() const noexcept override;
  task<opened_shard> create(const shard_header& header) override;
  task<opened_shard> open(shard_id id, generation of) override;
  task<errc> remove(shard_id id, generation of) override;
  device_statistics statistics() const override;

private:
  class host;

  std::string path_of(const shard_file_name& name) const;
  task<int32_t> open_data_file(std::string path, int flags, shard_file& file);
  task<errc> make_file(std::string path, const shard_header& header, std::shared_ptr<file_shard>& made);
  /// Made under another name, synced, renamed.
  task<errc> make_whole(std::string path, const shard_header& header, std::shared_ptr<file_shard>& made);
  task<errc> open_whole(std::string path, shard_file_name name, std::shared_ptr<file_shard>& opened);

  std::shared_ptr<host> host_;
};

} // namespace varve
