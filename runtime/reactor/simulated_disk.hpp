#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/reactor/ring.hpp"
#include "runtime/reactor/simulated_world.hpp"

namespace varve {

struct simulated_disk_options {
  /// Counted in 4 KiB pages of files; beyond it ENOSPC.
  uint64_t capacity_bytes = std::numeric_limits<uint64_t>::max();
  /// What O_DIRECT demands of offset, length and address, in bytes.
  uint64_t direct_alignment = 512;
  /// How often a read or write of more than one page is short.
  double short_chance = 0;
};

/// One thing that goes wrong on purpose.
struct simulated_fault {
  /// Any operation on files when empty.
  std::optional<ring_op> op;
  /// Only paths that contain this.
  std::string path_part;
  /// Positive errno; 0 with `hang` only.
  int error = 5; // EIO
  /// Lets so many matching operations pass first, then hits `count`.
  uint64_t skip = 0;
  uint64_t count = 1;
  /// Does not complete before release_hung().
  bool hang = false;
};

/// A file system in memory with a page cache in front of it: what is written is volatile until its file is synced,
/// directory entries until their folder is. Shared by the rings of one simulated machine.
///
/// A sync covers what completed before it was submitted; what completes while it runs may stay volatile. A failed
/// write may have been applied in part. A failed sync loses part of what it should have saved, and a later sync does
/// not bring it back, as on Linux.
class simulated_disk {
public:
  static constexpr uint64_t page_size = 4096;
  static constexpr uint64_t sector_size = 512;

  explicit simulated_disk(simulated_world& world, simulated_disk_options options = {});
  ~simulated_disk();
  simulated_disk(const simulated_disk&) = delete;

  simulated_disk_options& options() noexcept { return options_; }

  // -- the tests' view; immediate -------------------------------------------------------------------------------------

  /// With its parents; durable at once.
  void make_folder(const std::string& path);
  /// Names (not paths) in a folder, in order.
  std::vector<std::string> list(const std::string& folder) const;
  bool exists(const std::string& path) const;
  /// As a process would read it now; empty when there is no such file.
  std::vector<std::byte> contents(const std::string& path) const;
  /// Makes or replaces a file, durably.
  void put(const std::string& path, std::span<const std::byte> bytes);
  void remove(const std::string& path);
  /// As syncfs.
  void sync_all();
  uint64_t size_of(const std::string& path) const;
  uint64_t allocated_bytes(const std::string& path) const;
  uint64_t used_bytes() const noexcept;
  /// Bytes written but not durable, over all files.
  uint64_t unsynced_bytes() const noexcept;
  size_t open_files() const noexcept { return open_.size(); }

  // -- faults
  // ------------------------------------------------------------------------------------------------------------

  /// The newest fault that matches an operation is the one that hits it.
  void inject(simulated_fault x);
  void clear_faults();
  /// Everything that hangs goes on.
  void release_hung();
  /// Flips one bit of a file, on the medium and in the page cache. False when there is no such byte.
  bool corrupt(const std::string& path, uint64_t byte_offset, unsigned bit = 0);

  /// kill -9 of the process whose rings use this disk: each 4 KiB of each write in flight is applied or not; what was
  /// completed stays. Its rings are dead, its descriptors closed, its coroutines never run again.
  void kill();
  /// The machine loses power: as kill, and each 512-byte sector of each unsynced write, and each unsynced directory
  /// entry, is kept or lost by chance.
  void power_loss() { power_loss(world_.random()); }
  void power_loss(simulated_random& random);

private:
  friend class simulated_ring;

  using page = std::array<std::byte, page_size>;

  // A sparse file: what is not there reads as zeros.
  struct image {
    std::unordered_map<uint64_t, std::unique_ptr<page>> pages;
    uint64_t size = 0;

    page& touch(uint64_t index);
    void copy_from(const image& other);
    void read(uint64_t offset, std::span<std::byte> into) const;
    void write(uint64_t offset, std::span<const std::byte> from);
    void zero(uint64_t offset, uint64_t length);
    void punch(uint64_t offset, uint64_t length);
    void resize(uint64_t to);
    void resize_from(uint64_t from, uint64_t to);
    void cut_tail();
  };

  enum class change_kind : uint8_t { write, zero, punch, allocate, resize };

  // A change of a file that is not durable yet.
  struct change {
    uint64_t sequence = 0;
    change_kind kind = change_kind::write;
    uint64_t offset = 0;
    uint64_t length = 0;
    bool extends = false;
    std::vector<std::byte> bytes;
  };

  struct inode {
    explicit inode(std::shared_ptr<uint64_t> used) : used_pages(std::move(used)) {}
    ~inode() { *used_pages -= cached.pages.size(); }

    std::shared_ptr<uint64_t> used_pages;
    image cached;  // what processes see
    image durable; // what is left after a loss of everything volatile
    std::deque<change> unsynced;
  };

  struct entry_change {
    uint64_t sequence = 0;
    std::string from; // ceases to be, when not empty
    std::string to;   // becomes `file`, when not empty
    std::shared_ptr<inode> file;
  };

  struct open_file {
    std::shared_ptr<inode> file; // null for a folder
    std::string path;
    int flags = 0;
  };

  using keep_function = const std::function<bool()>&;

  // -- the rings' view
  // -----------------------------------------------------------------------------------------------------

  struct verdict {
    int error = 0;
    bool hang = false;
  };
  verdict judge(const ring_operation& x);
  // -errno when it cannot even start.
  int32_t check(const ring_operation& x) const;
  uint64_t mark() const noexcept { return sequence_; }
  // Moves the bytes of one page's worth of a read or write: 0, or -ENOSPC.
  int32_t move_piece(const ring_operation& x, uint64_t offset, uint64_t length);
  bool has_room(const ring_operation& x) const;
  int32_t open(const char* path, int flags);
  int32_t close(int fd);
  int32_t sync(int fd, uint64_t until);
  void fail_sync(int fd, uint64_t until);
  int32_t allocate(const ring_operation& x);
  int32_t truncate(const ring_operation& x);
  int32_t unlink(const char* path);
  int32_t rename(const char* from, const char* to);
  uint64_t size_of(int fd) const;

  void record(inode& file, change x);
  static void apply(image& to, const change& x, keep_function keep);
  void apply(std::map<std::string, std::shared_ptr<inode>>& to, const entry_change& x);
  void write_back_old(inode& file);
  void kill_rings();

  simulated_world& world_;
  simulated_disk_options options_;
  std::shared_ptr<uint64_t> used_pages_ = std::make_shared<uint64_t>(0);
  uint64_t sequence_ = 0; // of changes
  std::set<std::string> folders_;
  std::map<std::string, std::shared_ptr<inode>> names_;
  std::map<std::string, std::shared_ptr<inode>> durable_names_;
  std::vector<entry_change> unsynced_names_;
  std::map<int, open_file> open_;
  int next_fd_ = 1000; // never used twice, so that a use after close is seen
  std::vector<simulated_fault> faults_;
  std::vector<simulated_ring*> rings_;
};

} // namespace varve
