#include "runtime/nbd/nbd_negotiation.hpp"

#include <algorithm>
#include <optional>

namespace varve {

namespace {

using bytes = std::vector<std::byte>;

/// Reads an option's data front to back; every get fails for good once the data is too short.
class option_reader {
public:
  explicit option_reader(std::span<const std::byte> data) : rest_(data) {}

  template <class T>
  std::optional<T> get() {
    if (rest_.size() < sizeof(T))
      return std::nullopt;
    auto x = nbd::load<T>(rest_.data());
    rest_ = rest_.subspan(sizeof(T));
    return x;
  }

  std::optional<std::string_view> text(size_t size) {
    if (rest_.size() < size)
      return std::nullopt;
    std::string_view x{reinterpret_cast<const char*>(rest_.data()), size};
    rest_ = rest_.subspan(size);
    return x;
  }

  /// A length of 32 bits, then so many bytes.
  std::optional<std::string_view> text() {
    auto size = get<uint32_t>();
    return size ? text(*size) : std::nullopt;
  }

  size_t left() const noexcept { return rest_.size(); }

private:
  std::span<const std::byte> rest_;
};

void reply_header(bytes& out, nbd::option to, nbd::option_reply type, size_t length) {
  nbd::append(out, nbd::option_reply_magic);
  nbd::append(out, static_cast<uint32_t>(to));
  nbd::append(out, static_cast<uint32_t>(type));
  nbd::append(out, static_cast<uint32_t>(length));
}

void ack(bytes& out, nbd::option to) {
  reply_header(out, to, nbd::option_reply::ack, 0);
}

/// `why` is for people; clients print it.
void refuse(bytes& out, nbd::option to, nbd::option_reply type, std::string_view why) {
  reply_header(out, to, type, why.size());
  nbd::append(out, why);
}

bool valid_name(std::string_view x) {
  return x.size() <= nbd::string_bytes_max && x.find('\0') == std::string_view::npos;
}

} // namespace

void nbd_negotiation::greet(bytes& out) const {
  nbd::append(out, nbd::magic);
  nbd::append(out, nbd::option_magic);
  nbd::append(out, static_cast<uint16_t>(nbd::flag_fixed_newstyle | nbd::flag_no_zeroes));
}

uint16_t nbd_negotiation::transmission_flags(const block_backend& x, bool structured) noexcept {
  // Flush covers what was answered on any connection (the backend's promise), hence multi-conn.
  uint16_t flags = nbd::transmission_has_flags | nbd::transmission_send_flush | nbd::transmission_send_fua |
                   nbd::transmission_can_multi_conn | nbd::transmission_send_cache;
  if (x.read_only())
    flags |= nbd::transmission_read_only;
  else
    flags |= nbd::transmission_send_trim | nbd::transmission_send_write_zeroes | nbd::transmission_send_fast_zero;
  if (structured)
    flags |= nbd::transmission_send_df;
  return flags;
}

size_t nbd_negotiation::feed(std::span<const std::byte> in, bytes& out) {
  if (skip_ > 0 && phase_ == phase::options) {
    auto skipped = std::min<uint64_t>(skip_, in.size());
    skip_ -= skipped;
    return skipped;
  }
  switch (phase_) {
  case phase::client_flags: {
    if (in.size() < 4)
      return 0;
    auto flags = nbd::load<uint32_t>(in.data());
    fixed_newstyle_ = flags & nbd::flag_fixed_newstyle;
    no_zeroes_ = flags & nbd::flag_no_zeroes;
    // The protocol: hang up on flags that are not known.
    auto known = uint32_t{nbd::flag_fixed_newstyle} | nbd::flag_no_zeroes;
    phase_ = flags & ~known ? phase::closed : phase::options;
    return 4;
  }
  case phase::options: {
    if (in.size() < nbd::option_header_size)
      return 0;
    auto what = static_cast<nbd::option>(nbd::load<uint32_t>(in.data() + 8));
    auto length = nbd::load<uint32_t>(in.data() + 12);
    if (nbd::load<uint64_t>(in.data()) != nbd::option_magic) {
      phase_ = phase::closed;
      return nbd::option_header_size;
    }
    if (length <= options_.option_bytes_max && in.size() < nbd::option_header_size + length)
      return 0;
    if (++options_seen_ > options_.options_max) {
      phase_ = phase::closed;
      return nbd::option_header_size;
    }
    if (length > options_.option_bytes_max) {
      // Without fixed newstyle, or for an export name, there is no answer that says no.
      if (!fixed_newstyle_ || what == nbd::option::export_name) {
        phase_ = phase::closed;
      } else {
        refuse(out, what, nbd::option_reply::error_too_big, "option data is too long");
        skip_ = length;
      }
      return nbd::option_header_size;
    }
    option(what, in.subspan(nbd::option_header_size, length), out);
    return nbd::option_header_size + length;
  }
  case phase::transmission:
  case phase::closed: break;
  }
  return 0;
}

void nbd_negotiation::option(nbd::option what, std::span<const std::byte> data, bytes& out) {
  if (!fixed_newstyle_ && what != nbd::option::export_name) {
    phase_ = phase::closed;
    return;
  }
  switch (what) {
  case nbd::option::export_name: return export_name(data, out);
  case nbd::option::abort:
    ack(out, what);
    phase_ = phase::closed;
    return;
  case nbd::option::list: return list(data, out);
  case nbd::option::starttls:
    return data.empty() ? refuse(out, what, nbd::option_reply::error_unsupported, "no TLS on this socket")
                        : refuse(out, what, nbd::option_reply::error_invalid, "unexpected data");
  case nbd::option::info:
  case nbd::option::go: return info_or_go(what, data, out);
  case nbd::option::structured_reply: return structured_reply(data, out);
  case nbd::option::list_meta_context:
  case nbd::option::set_meta_context: return meta_context(what, data, out);
  }
  refuse(out, what, nbd::option_reply::error_unsupported, "unknown option");
}

void nbd_negotiation::choose(std::string_view name, block_backend* found) {
  chosen_ = found;
  chosen_name_ = name;
  // A context belongs to the export that it was asked for.
  allocation_ = allocation_ && structured_ && allocation_of_ == name;
  phase_ = phase::transmission;
}

void nbd_negotiation::export_name(std::span<const std::byte> data, bytes& out) {
  std::string_view name{reinterpret_cast<const char*>(data.data()), data.size()};
  auto* found = valid_name(name) ? exports_.find(name) : nullptr;
  if (!found) {
    // This option knows no refusal.
    phase_ = phase::closed;
    return;
  }
  nbd::append(out, found->size_bytes());
  nbd::append(out, transmission_flags(*found, structured_));
  if (!no_zeroes_)
    out.resize(out.size() + 124);
  choose(name, found);
}

void nbd_negotiation::list(std::span<const std::byte> data, bytes& out) {
  if (!data.empty())
    return refuse(out, nbd::option::list, nbd::option_reply::error_invalid, "unexpected data");
  for (const auto& name : exports_.names()) {
    reply_header(out, nbd::option::list, nbd::option_reply::server, 4 + name.size());
    nbd::append(out, static_cast<uint32_t>(name.size()));
    nbd::append(out, name);
  }
  ack(out, nbd::option::list);
}

std::string nbd_negotiation::canonical_name(std::string_view asked, const block_backend* found) const {
  if (asked.empty())
    for (auto& name : exports_.names())
      if (exports_.find(name) == found)
        return name;
  return std::string{asked};
}

void nbd_negotiation::info_or_go(nbd::option what, std::span<const std::byte> data, bytes& out) {
  option_reader reader{data};
  auto name = reader.text();
  auto count = reader.get<uint16_t>();
  if (!name || !count || reader.left() != *count * sizeof(uint16_t))
    return refuse(out, what, nbd::option_reply::error_invalid, "malformed request");
  if (!valid_name(*name))
    return refuse(out, what, nbd::option_reply::error_invalid, "malformed export name");
  auto* found = exports_.find(*name);
  if (!found)
    return refuse(out, what, nbd::option_reply::error_unknown, "no such export");

  bool asked[4] = {true, false, false, false};
  for (unsigned i = 0; i < *count; ++i)
    if (auto wanted = *reader.get<uint16_t>(); wanted < 4)
      asked[wanted] = true; // others are not ours to know; the protocol says to ignore them

  reply_header(out, what, nbd::option_reply::info, 12);
  nbd::append(out, static_cast<uint16_t>(nbd::info::exported));
  nbd::append(out, found->size_bytes());
  nbd::append(out, transmission_flags(*found, structured_));
  if (asked[static_cast<unsigned>(nbd::info::name)]) {
    auto known_as = canonical_name(*name, found);
    reply_header(out, what, nbd::option_reply::info, 2 + known_as.size());
    nbd::append(out, static_cast<uint16_t>(nbd::info::name));
    nbd::append(out, known_as);
  }
  if (asked[static_cast<unsigned>(nbd::info::description)]) {
    reply_header(out, what, nbd::option_reply::info, 2 + options_.description.size());
    nbd::append(out, static_cast<uint16_t>(nbd::info::description));
    nbd::append(out, options_.description);
  }
  if (asked[static_cast<unsigned>(nbd::info::block_size)]) {
    reply_header(out, what, nbd::option_reply::info, 14);
    nbd::append(out, static_cast<uint16_t>(nbd::info::block_size));
    nbd::append(out, uint32_t{1});
    nbd::append(out, static_cast<uint32_t>(block_size));
    nbd::append(out, options_.payload_bytes_max);
  }
  ack(out, what);
  if (what == nbd::option::go)
    choose(*name, found);
}

void nbd_negotiation::structured_reply(std::span<const std::byte> data, bytes& out) {
  if (!data.empty())
    return refuse(out, nbd::option::structured_reply, nbd::option_reply::error_invalid, "unexpected data");
  structured_ = true;
  ack(out, nbd::option::structured_reply);
}

void nbd_negotiation::meta_context(nbd::option what, std::span<const std::byte> data, bytes& out) {
  const bool set = what == nbd::option::set_meta_context;
  // Whatever comes of it, a new SET undoes the old one.
  if (set)
    allocation_ = false;
  if (!structured_)
    return refuse(out, what, nbd::option_reply::error_invalid, "negotiate structured replies first");
  option_reader reader{data};
  auto name = reader.text();
  auto count = reader.get<uint32_t>();
  if (!name || !count)
    return refuse(out, what, nbd::option_reply::error_invalid, "malformed request");
  bool wanted = !set && *count == 0; // a listing without queries is of everything
  for (uint32_t i = 0; i < *count; ++i) {
    // Each needs at least four bytes, so the data's length bounds this loop, whatever `count` says.
    auto query = reader.text();
    if (!query)
      return refuse(out, what, nbd::option_reply::error_invalid, "malformed request");
    wanted |= *query == nbd::allocation_context || (!set && *query == "base:");
  }
  if (reader.left() != 0)
    return refuse(out, what, nbd::option_reply::error_invalid, "malformed request");
  if (!valid_name(*name))
    return refuse(out, what, nbd::option_reply::error_invalid, "malformed export name");
  if (!exports_.find(*name))
    return refuse(out, what, nbd::option_reply::error_unknown, "no such export");
  if (wanted) {
    reply_header(out, what, nbd::option_reply::meta_context, 4 + nbd::allocation_context.size());
    nbd::append(out, nbd::allocation_context_id);
    nbd::append(out, nbd::allocation_context);
    if (set) {
      allocation_ = true;
      allocation_of_ = *name;
    }
  }
  ack(out, what);
}

} // namespace varve
