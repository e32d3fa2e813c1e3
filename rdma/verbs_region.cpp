#include "rdma/verbs_region.hpp"

#include <cstdlib>
#include <utility>

#include <infiniband/verbs.h>

namespace varve {

verbs_region::verbs_region(verbs_region&& other) noexcept
  : domain_(std::move(other.domain_)), registered_(std::exchange(other.registered_, nullptr)) {}

verbs_region& verbs_region::operator=(verbs_region&& other) noexcept {
  // What this had ends here, not when `other` dies: a peer's key counts as long as it is registered.
  const verbs_region ended{std::move(*this)};
  domain_ = std::move(other.domain_);
  registered_ = std::exchange(other.registered_, nullptr);
  return *this;
}

verbs_region::~verbs_region() {
  // It fails for memory that windows are bound to, which nobody does here.
  if (registered_ && ::ibv_dereg_mr(registered_) != 0)
    std::abort(); // a peer could go on writing into what is about to be somebody else's
}

std::span<std::byte> verbs_region::bytes() const noexcept {
  if (!registered_)
    return {};
  return {static_cast<std::byte*>(registered_->addr), registered_->length};
}

uint32_t verbs_region::local_key() const noexcept {
  return registered_ ? registered_->lkey : 0;
}

remote_memory verbs_region::remote() const noexcept {
  if (!registered_)
    return {};
  return {reinterpret_cast<uint64_t>(registered_->addr), registered_->length, registered_->rkey};
}

} // namespace varve
