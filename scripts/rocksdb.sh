#!/usr/bin/env bash
# Builds RocksDB's static archive once, into a cache outside the clone, for every profile to link.
#
# The C++ sources are those bundled in the crate librocksdb-sys; cargo downloads them. Compiled one
# by one they cost 25 CPU-minutes, nearly all of it in parsing the same headers 342 times, so they
# are compiled in groups: a handful of files that only #include many sources each. What Ottla never
# calls, or only while a database is opened, is linked but not optimised: that halves the rest. The
# archive's folder is named after everything that determines its content, so a change of version,
# compiler or flags builds a new one beside the old.
#
#   scripts/rocksdb.sh          build if missing; prints the two variables that make cargo link it
#   scripts/rocksdb.sh --path   print the folder where this version's archive is or would be
set -euo pipefail
cd "$(dirname "$0")/.."

group_size=20
cold_group_size=40
# Transactions, blobs, traces, other table formats, tools, option parsing, the C functions.
cold='^(utilities/|trace_replay/|tools/|test_util/|options/|db/(blob|wide)/|table/(plain|cuckoo|adaptive)/'
cold+='|db/(c|convenience|experimental|repair|transaction_log_impl|import_column_family_job)\.cc'
cold+='|db/(external_sst_file_ingestion_job|db_info_dumper|malloc_stats)\.cc'
cold+='|db/db_impl/db_impl_(readonly|secondary|follower|experimental|debug)'
cold+='|env/(composite_env|emulated|env_chroot|env_encryption|fs_on_demand|fs_readonly|fs_remap|mock_env)'
cold+='|cache/(compressed|secondary|tiered))'
version="$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)"
[ -n "$version" ] || { echo "rocksdb: librocksdb-sys is not in Cargo.lock" >&2; exit 1; }
if command -v clang++ >/dev/null; then
    compiler=clang++
elif command -v g++ >/dev/null; then
    compiler=g++
else
    # Before scripts/setup has run there is nothing to ask, and so no archive either.
    [ "${1:-}" = --path ] || echo "rocksdb: no C++ compiler: scripts/setup installs one" >&2
    exit 1
fi

# What the crate's own build script sets on Linux with only the feature `lz4`.
flags=(-std=c++20 -fPIC -w -include cstdint
    -DNDEBUG=1 -DLZ4=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION
    -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT
    -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT)
case "$(uname -m)" in
    x86_64) flags+=(-msse4.2 -mpclmul) ;;
    aarch64) flags+=(-march=armv8-a+crc+aes+crypto) ;;
esac

determinants="$version $group_size $cold_group_size $cold ${flags[*]} $("$compiler" --version | head -1)"
key="$version-$(printf '%s' "$determinants" | sha256sum | cut -c1-12)"
target="${OTTLA_CACHE:-$HOME/.cache/ottla}/rocksdb/$key"

if [ "${1:-}" = --path ]; then
    echo "$target"
    exit 0
fi
print_variables() {
    echo "ROCKSDB_LIB_DIR=$target"
    echo "ROCKSDB_STATIC=1"
}

mkdir -p "$(dirname "$target")"
exec 9>"$target.lock"
flock 9 # two builds at once would only take turns on the same cores
if [ -e "$target/librocksdb.a" ]; then
    print_variables
    exit 0
fi

# The sources lie where cargo unpacked the crate: ask cargo, which knows mirrors and vendoring.
cargo fetch --locked --quiet
crate_folder() {
    cargo metadata --format-version 1 --locked --offline --all-features 2>/dev/null |
        tr '{' '\n' | tr ',' '\n' |
        sed -n "s|^\"manifest_path\":\"\(.*/$1-[0-9][^/]*\)/Cargo.toml\".*|\1|p" | head -1
}
sources="$(crate_folder librocksdb-sys)"
lz4="$(crate_folder lz4-sys)/liblz4/lib"
for folder in "$sources/rocksdb" "$lz4"; do
    [ -d "$folder" ] || { echo "rocksdb: cannot find the sources: no $folder" >&2; exit 1; }
done

work="$(mktemp -d "$target.build.XXXXXX")"
trap 'rm -rf "$work"' EXIT
# group NAME SIZE: the sources named on standard input, as files that include SIZE of them each.
group() {
    split -d -a 3 -l "$2" - "$work/$1-"
    for unit in "$work/$1"-*; do
        sed "s|.*|#include \"$sources/&\"|" "$unit" > "$unit.cc"
        rm "$unit"
    done
}
grep -v '^util/build_version.cc$' "$sources/rocksdb_lib_sources.txt" > "$work/list"
grep -E "$cold" "$work/list" | sed 's|^|rocksdb/|' | group unit-cold "$cold_group_size"
{
    grep -vE "$cold" "$work/list" | sed 's|^|rocksdb/|'
    echo build_version.cc
} | group unit-hot "$group_size"
units="$(ls "$work"/unit-*.cc | wc -l)"
echo "rocksdb: compiling RocksDB $version once into $target" >&2
echo "rocksdb: $units units with $compiler on $(nproc) cores; a few minutes" >&2

compile() {
    local optimise=-O2
    case "$1" in */unit-cold-*) optimise=-O0 ;; esac
    "$COMPILER" $optimise $FLAGS -c "$1" -o "${1%.cc}.o" || exit 255
    echo "rocksdb: $(ls "${1%/*}"/*.o | wc -l)/$UNITS units compiled" >&2
}
export -f compile
export COMPILER="$compiler" UNITS="$units"
export FLAGS="${flags[*]} -I$sources -I$sources/rocksdb/include -I$sources/rocksdb -I$lz4"
started="$SECONDS"
ls "$work"/unit-*.cc | xargs -P "$(nproc)" -I{} bash -c 'compile {}'
# The linker takes the first copy of what is in both: the optimised one.
ar crs "$work/librocksdb.a" "$work"/unit-hot-*.o "$work"/unit-cold-*.o
mkdir -p "$target"
mv "$work/librocksdb.a" "$target/librocksdb.a"
echo "rocksdb: done in $((SECONDS - started)) s" >&2
print_variables
