#pragma once

#include <memory>

#include "runtime/remote/remote_client.hpp"
#include "runtime/remote/unsynced_book.hpp"
#include "runtime/storage/checksum_table.hpp"
#include "runtime/storage/shard_device.hpp"
#include "runtime/storage/shard_store.hpp"

namespace varve {

struct remote_store_options {
  /// Under which name this reactor's shard table knows the tier, its kind, and what to tell of mismatches.
  shard_store_options as;
  /// The server's name of it.
  std::string tier;
  /// Of each shard from its opening: see shard::mirror_sums. Takes a key with remote_rights::control. Without it `sums`
  /// is not to be asked, and every block counts as written.
  bool mirror_sums = false;
  /// Where acknowledged changes are noted that are not flushed. Null: nowhere, nobody takes them over.
  std::shared_ptr<unsynced_book> unsynced;
  /// Told of each opening, in the middle of it. May be empty.
  std::function<void()> on_open;
};

/// Which client leads to the shards of a volume now: it may change from one request to the next. Null: none; what is
/// asked then ends with errc::unavailable. Clients must give a tier the same number.
using remote_way = std::function<remote_client*(volume_id)>;

/// What the shards of one remote tier share.
struct remote_store_host {
  remote_store_host(varve::reactor& runs_on, remote_way over, remote_store_options with)
    : on(runs_on), way(std::move(over)), options(std::move(with)) {}

  /// The client for a request, which gets its tier's number there; null: none now.
  remote_client* client_for(remote_request& x) {
    auto* client = way(x.header.id.volume);
    if (client && client != last_) {
      tier_ = client->tier(options.tier);
      last_ = client;
    }
    x.tier = tier_;
    return client;
  }
  /// What the end of a request at its client says: when that has ended, there may be another one by now.
  static errc outcome(errc status) noexcept { return status == errc::cancelled ? errc::unavailable : status; }
  /// Carries a request out; the status.
  task<errc> perform(remote_request& x);

  reactor& on;
  remote_way way;
  remote_store_options options;
  device_meter meter;
  size_t open = 0;
  /// Shards whose acknowledged changes may be gone, so far.
  uint64_t lost = 0;

private:
  remote_client* last_ = nullptr;
  uint16_t tier_ = 0; // its number at `last_`
};

/// A shard at another node, as its lease's holder or a migration sees it. The far end checks generation and epoch of
/// each request: its refusals (errc::stale_epoch, shard_moved, unavailable) come back as the status, and are to be
/// taken as those of a gate, not as the VM's. What is sent again after a lost connection is the client's business;
/// errc::timed_out: it could not be carried out in time.
///
/// The header is what the far end said last; its fence is not kept up to date, since it is checked there.
class remote_shard final : public shard {
public:
  /// `dirty`: the server holds acknowledged changes that are not flushed, under that write verifier.
  remote_shard(std::shared_ptr<remote_store_host> host, const shard_header& header, uint64_t allocated_bytes,
               bool dirty, uint64_t boot);
  ~remote_shard() override;

  /// The changes are an earlier process's of this node, noted in the book.
  void inherit() noexcept { noted_ = true; }
  /// The epoch that later requests carry: of the lease under which they are made. At first the header's fence;
  /// raised with the fences that are raised through this object.
  void hold(epoch x) noexcept override {
    epoch_ = x;
    turn_ = 0;
  }
  uint64_t turn() const noexcept override { return turn_; }
  task<errc> look() override;
  void repeat(uint64_t turn) noexcept override { repeats_ = turn; }
  /// Fetches all sums (with mirror_sums).
  task<errc> refresh();
  /// Changes that were acknowledged, and not flushed before the server's boot id changed, may be gone. From then on
  /// `flush` fails, until a `verify` that finds nothing.
  bool lost_changes() const noexcept { return lost_; }

  const shard_header& header() const noexcept override { return header_; }
  task<errc> read(uint64_t offset, std::span<std::byte> into) override;
  std::span<const std::byte> pin(uint64_t, uint64_t) noexcept override { return {}; }
  void unpin() noexcept override {}
  task<errc> write(uint64_t offset, std::span<const std::byte> from) override;
  task<errc> trim(uint64_t offset, uint64_t length) override;
  task<errc> write_zeroes(uint64_t offset, uint64_t length, bool keep_allocated) override;
  /// errc::shard_failed when changes may be lost.
  task<errc> flush() override;
  bool dirty() const noexcept override { return dirty_; }
  void extents(uint64_t offset, uint64_t length, std::vector<shard_extent>& out) const override;
  /// Without mirror_sums as of its opening.
  uint64_t allocated_bytes() const noexcept override {
    return table_ && mirrors_ ? table_->allocated_bytes() : allocated_bytes_;
  }

  task<errc> checkpoint() override;
  task<errc> raise_fence(epoch to) override;
  task<errc> seal(migration_id by, generation replaced_by) override;
  /// And refreshes the sums.
  task<errc> complete(epoch fence) override;
  /// Of the whole shard, whatever the range.
  task<uint64_t> verify(uint64_t offset, uint64_t length, errc& status) override;

  /// Notes what is changed through this object only: all there is while its holder has the write lease.
  void track_changes(bool on) override;
  std::vector<shard_extent> take_changes() override;
  void forget_changes(uint64_t offset, uint64_t length) override;
  uint64_t changed_bytes() const noexcept override { return table_ ? table_->changed_bytes() : 0; }

  task<errc> read_with_sums(uint64_t offset, std::span<std::byte> into, block_sums& sums) override;
  task<errc> write_with_sums(uint64_t offset, std::span<const std::byte> from, const block_sums& sums) override;
  const block_sums& sums() const noexcept override;
  task<errc> mirror_sums(bool on) override;

private:
  struct change;

  remote_request request(remote::op what, uint64_t offset = 0, uint64_t length = 0) const;
  task<errc> ask(remote_request& x);
  task<errc> change_part(remote_request& x);
  task<errc> change_all(remote::op what, uint8_t flags, uint64_t offset, uint64_t length,
                        std::span<const std::byte> from);
  void acknowledged(const remote::reply& x);
  void note(uint64_t offset, uint64_t length) noexcept;
  task<errc> fetch_sums(uint64_t offset, uint64_t length);
  task<errc> control(remote::op what, uint64_t argument, uint64_t argument2, uint64_t* boot = nullptr);
  void lose() noexcept;
  /// All that was acknowledged is durable.
  void clean();
  inherited_shard noted() const { return {host_->options.tier, header_.id, header_.generation, dirty_boot_}; }
  block_table& table();

  std::shared_ptr<remote_store_host> host_;
  shard_header header_;
  epoch epoch_;
  std::unique_ptr<block_table> table_; // of mirrored sums, or for notes
  uint64_t allocated_bytes_ = 0;
  bool mirrors_ = false;
  bool dirty_ = false;
  bool lost_ = false;
  bool noted_ = false; // in host_->options.unsynced
  uint64_t turn_ = 0;
  uint64_t repeats_ = 0;    // the next change does
  uint64_t changes_ = 0;    // acknowledged so far
  uint64_t dirty_boot_ = 0; // the server's, when the first of those that are not flushed was acknowledged
};

/// The shards of a tier at another node, so that a shard table, and with it ports and moves, can have them as its own.
/// The clients outlive it.
class remote_store final : public shard_store {
public:
  remote_store(reactor& on, remote_way way, remote_store_options options);

  const shard_store_options& options() const noexcept override { return host_->options.as; }
  bool remote() const noexcept override { return true; }
  task<opened_shard> create(const shard_header& header) override;
  task<opened_shard> open(shard_id id, generation of) override;
  std::unique_ptr<shard> inherit(const shard_header& header, uint64_t verifier) override;
  task<errc> remove(shard_id id, generation of) override;
  device_statistics statistics() const override { return host_->meter.statistics(host_->on.now()); }

  size_t open_shards() const noexcept { return host_->open; }
  uint64_t lost_shards() const noexcept { return host_->lost; }

private:
  task<opened_shard> opened(remote_request& x);

  std::shared_ptr<remote_store_host> host_;
};

/// With one client for all volumes.
std::unique_ptr<shard_store> make_remote_store(reactor& on, remote_client& client, remote_store_options options);

} // namespace varve
