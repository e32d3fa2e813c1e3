#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

struct ibv_pd;
struct ibv_mr;

namespace varve {

/// A part of a peer's registered memory, as the peer has told of it. Whoever has the peer's connection and this may
/// write there until the peer ends its registration.
struct remote_memory {
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint32_t key = 0;

  bool operator==(const remote_memory&) const = default;
};

/// What the peer of a connection may do with registered memory. It may never read it.
enum class verbs_access : uint8_t {
  /// Nothing: this end sends from it and receives into it.
  local,
  /// Write into it.
  peer_writes,
};

/// Memory that a verbs_link's device may reach; ends the registration when it dies. The memory is its user's, outlives
/// it and is anonymous: newer kernels refuse pages of disk files. It may outlive the link. Not before what was begun
/// with it is over.
class verbs_region {
public:
  verbs_region() noexcept = default;
  verbs_region(std::shared_ptr<ibv_pd> domain, ibv_mr* registered) noexcept
    : domain_(std::move(domain)), registered_(registered) {}
  verbs_region(verbs_region&& other) noexcept;
  verbs_region& operator=(verbs_region&& other) noexcept;
  ~verbs_region();

  bool empty() const noexcept { return registered_ == nullptr; }
  std::span<std::byte> bytes() const noexcept;
  /// For the device.
  uint32_t local_key() const noexcept;
  /// What a peer that may write into it is told.
  remote_memory remote() const noexcept;

private:
  std::shared_ptr<ibv_pd> domain_;
  ibv_mr* registered_ = nullptr;
};

} // namespace varve
