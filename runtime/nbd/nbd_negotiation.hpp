#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/nbd/block_backend.hpp"
#include "runtime/nbd/nbd_options.hpp"
#include "runtime/nbd/nbd_protocol.hpp"

namespace varve {

/// The handshake of one connection, from the server's side: bytes in, bytes out; no socket, no clock. It ends with an
/// export being chosen, or in being closed.
class nbd_negotiation {
public:
  enum class phase : uint8_t { client_flags, options, transmission, closed };

  nbd_negotiation(const nbd_options& options, export_directory& exports) : options_(options), exports_(exports) {}

  /// Appends what the server says first.
  void greet(std::vector<std::byte>& out) const;

  /// Takes one step when `in` holds enough for it, appending the answer to `out`; returns how many bytes of `in` it has
  /// consumed: 0 means that it needs more, or that it has ended. `in` must be able to hold option_header_size +
  /// options.option_bytes_max bytes.
  size_t feed(std::span<const std::byte> in, std::vector<std::byte>& out);

  phase state() const noexcept { return phase_; }

  /// In transmission: the chosen export, and what was agreed.
  block_backend* chosen() const noexcept { return chosen_; }
  const std::string& chosen_name() const noexcept { return chosen_name_; }
  bool structured_replies() const noexcept { return structured_; }
  bool allocation_context() const noexcept { return allocation_; }

  /// The transmission flags of an export.
  static uint16_t transmission_flags(const block_backend& x, bool structured) noexcept;

private:
  void option(nbd::option what, std::span<const std::byte> data, std::vector<std::byte>& out);
  void export_name(std::span<const std::byte> data, std::vector<std::byte>& out);
  void list(std::span<const std::byte> data, std::vector<std::byte>& out);
  void info_or_go(nbd::option what, std::span<const std::byte> data, std::vector<std::byte>& out);
  void structured_reply(std::span<const std::byte> data, std::vector<std::byte>& out);
  void meta_context(nbd::option what, std::span<const std::byte> data, std::vector<std::byte>& out);
  std::string canonical_name(std::string_view asked, const block_backend* found) const;
  void choose(std::string_view name, block_backend* found);

  const nbd_options& options_;
  export_directory& exports_;
  phase phase_ = phase::client_flags;
  bool fixed_newstyle_ = false;
  bool no_zeroes_ = false;
  bool structured_ = false;
  bool allocation_ = false;
  std::string allocation_of_; // the export that the context was set for; another one has none
  size_t options_seen_ = 0;
  uint64_t skip_ = 0; // bytes of an overlong option's data that are still to come
  block_backend* chosen_ = nullptr;
  std::string chosen_name_;
};

} // namespace varve
