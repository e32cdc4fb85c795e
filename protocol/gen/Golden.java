/*
 * Writes the golden files of protocol/tests/golden with Apache Kafka's own serializer.
 *
 * Run it by `protocol/gen/golden.sh`; it is not part of any build. Every field of a message gets a
 * value computed from its name, so that the test can tell whether our codec read each field where
 * Kafka wrote it. "full" messages set everything the version has, "default" ones nothing.
 */

import java.io.PrintWriter;
import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;

public class Golden {
    static final int[] KEYS = {0, 1, 2, 3, 8, 9, 10, 18, 19, 20, 22, 23, 32, 33, 35, 37, 44, 55, 60, 68, 69, 75, 80};

    public static void main(String[] args) throws Exception {
        Path folder = Path.of(args[0]);
        Files.createDirectories(folder);
        for (int id : KEYS) {
            ApiKeys key = ApiKeys.forId(id);
            try (PrintWriter out = new PrintWriter(folder.resolve(key.name.toLowerCase() + ".hex").toFile())) {
                out.println("# " + key.name + ": key, side, version, contents, values, body. By gen/golden.sh.");
                for (String side : List.of("Request", "Response")) {
                    write(out, key, side);
                }
            }
        }
        batches(folder);
    }

    static void write(PrintWriter out, ApiKeys key, String side) throws Exception {
        Class<?> type = Class.forName("org.apache.kafka.common.message." + key.name + side + "Data");
        for (short version = key.messageType.lowestSupportedVersion();
                version <= key.messageType.highestSupportedVersion(true); version++) {
            Schema schema = ((Schema[]) type.getField("SCHEMAS").get(null))[version];
            for (boolean full : new boolean[] {false, true}) {
                Message message = (Message) type.getDeclaredConstructor().newInstance();
                numbers = 0;
                if (full) {
                    fill(message, schema, 0);
                }
                ObjectSerializationCache cache = new ObjectSerializationCache();
                ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
                message.write(new ByteBufferAccessor(buffer), cache, version);
                String name = full ? "full" : "default";
                out.println(key.id + " " + side.toLowerCase() + " " + version + " " + name + " "
                    + numbers + " " + HexFormat.of().formatHex(buffer.array()));
            }
        }
    }

    /** How many numbers, strings and ids the message was given. */
    static int numbers;

    static void fill(Object target, Schema schema, int index) throws Exception {
        for (BoundField bound : schema.fields()) {
            if (bound.def.type instanceof TaggedFields tagged) {
                for (Field field : new TreeMap<>(tagged.fields()).values()) {
                    set(target, field, index);
                }
            } else {
                set(target, bound.def, index);
            }
        }
    }

    static void set(Object target, Field field, int index) throws Exception {
        Method setter = null;
        String name = "set" + field.name.replace("_", "");
        for (Method method : target.getClass().getMethods()) {
            if (method.getName().equalsIgnoreCase(name) && method.getParameterCount() == 1) {
                setter = method;
            }
        }
        if (setter == null) {
            throw new IllegalStateException(target.getClass() + " has no setter for " + field.name);
        }
        setter.invoke(target, value(field, setter.getGenericParameterTypes()[0], field.type, index));
    }

    static Object value(Field field, Type type, org.apache.kafka.common.protocol.types.Type wire, int index)
            throws Exception {
        int hash = hash(field.name);
        if (type == boolean.class) {
            return true;
        }
        boolean counted = type instanceof Class<?> c && (c.isPrimitive() || c == Byte.class
            || c == Short.class || c == Integer.class || c == Long.class || c == String.class
            || c == Uuid.class);
        numbers += counted ? 1 : 0;
        if (type == byte.class || type == Byte.class) {
            return (byte) ((hash & 0x3f) + index);
        } else if (type == short.class || type == Short.class) {
            return (short) ((hash & 0x3fff) + index);
        } else if (type == int.class || type == Integer.class) {
            boolean unsigned = wire == org.apache.kafka.common.protocol.types.Type.UINT16;
            return unsigned ? (hash & 0x3fff) + index : (hash & 0x3fffffff) + index;
        } else if (type == long.class || type == Long.class) {
            return (hash & 0x3fffffffL) * 1_000_003L + index;
        } else if (type == String.class) {
            return field.name + "-" + index;
        } else if (type == Uuid.class) {
            return new Uuid(hash & 0x3fffffffL, (hash & 0x3fffffffL) + index);
        } else if (type == byte[].class) {
            return field.name.getBytes(StandardCharsets.UTF_8);
        } else if (type == ByteBuffer.class) {
            return ByteBuffer.wrap(field.name.getBytes(StandardCharsets.UTF_8));
        } else if (type == BaseRecords.class) {
            return MemoryRecords.readableRecords(ByteBuffer.wrap(batch(Compression.NONE, 0).buffer().array()));
        } else if (type instanceof ParameterizedType list) {
            return elements(field, new ArrayList<>(), list.getActualTypeArguments()[0], wire);
        } else if (type instanceof Class<?> c && Collection.class.isAssignableFrom(c)) {
            @SuppressWarnings("unchecked")
            Collection<Object> collection = (Collection<Object>) c.getDeclaredConstructor().newInstance();
            Type element = ((ParameterizedType) c.getGenericSuperclass()).getActualTypeArguments()[0];
            return elements(field, collection, element, wire);
        }
        Object struct = ((Class<?>) type).getDeclaredConstructor().newInstance();
        fill(struct, schemaOf(wire), index);
        return struct;
    }

    static Object elements(Field field, Collection<Object> into, Type element,
            org.apache.kafka.common.protocol.types.Type wire) throws Exception {
        var inner = wire.arrayElementType().get();
        for (int index = 0; index < 2; index++) {
            into.add(value(field, element, inner, index));
        }
        return into;
    }

    static Schema schemaOf(org.apache.kafka.common.protocol.types.Type wire) throws Exception {
        if (wire instanceof Schema schema) {
            return schema;
        }
        // A nullable struct keeps its schema to itself.
        var field = wire.getClass().getDeclaredField("schema");
        field.setAccessible(true);
        return (Schema) field.get(wire);
    }

    /** FNV-1a over the name. */
    static int hash(String name) {
        int hash = 0x811c9dc5;
        for (byte b : name.getBytes(StandardCharsets.UTF_8)) {
            hash = (hash ^ (b & 0xff)) * 0x01000193;
        }
        return hash;
    }

    static void batches(Path folder) throws Exception {
        try (PrintWriter out = new PrintWriter(folder.resolve("batches.hex").toFile())) {
            out.println("# Record batches: codec, bytes. By gen/golden.sh.");
            Compression[] codecs = {
                Compression.NONE, Compression.gzip().build(), Compression.snappy().build(),
                Compression.lz4().build(), Compression.zstd().build(),
            };
            for (Compression codec : codecs) {
                byte[] bytes = bytesOf(batch(codec, 70));
                out.println(codec.type().name + " " + HexFormat.of().formatHex(bytes));
            }
            byte[] marker = bytesOf(MemoryRecords.withEndTransactionMarker(5, 1_700_000_000_000L, 3, 77, (short) 2,
                new EndTransactionMarker(ControlRecordType.COMMIT, 9)));
            out.println("marker " + HexFormat.of().formatHex(marker));
        }
    }

    static byte[] bytesOf(MemoryRecords records) {
        byte[] bytes = new byte[records.sizeInBytes()];
        records.buffer().duplicate().get(bytes);
        return bytes;
    }

    static MemoryRecords batch(Compression codec, int repeat) {
        Header[] headers = {
            new RecordHeader("same", "1".getBytes()), new RecordHeader("same", (byte[]) null),
            new RecordHeader("", new byte[0]),
        };
        ByteBuffer buffer = ByteBuffer.allocate(1024);
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(buffer, (byte) 2, codec,
            TimestampType.CREATE_TIME, 0L, -1L, 77L, (short) 2, 10, false, false, -1, 1 << 20);
        builder.append(1_700_000_000_000L, "key".getBytes(), "value".repeat(1 + repeat).getBytes(), headers);
        builder.append(1_699_999_999_999L, null, new byte[0]);
        builder.append(1_700_000_000_500L, new byte[0], null);
        MemoryRecords records = builder.build();
        byte[] bytes = bytesOf(records);
        return MemoryRecords.readableRecords(ByteBuffer.wrap(bytes));
    }
}
