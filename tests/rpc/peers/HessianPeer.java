// Caucho's Hessian, the origin of the format: reads values and writes them again.
//
//     java -cp hessian.jar HessianPeer.java
//
// A line of its input is "echo HEX", or the name of something to write; it is answered with a line: the bytes in hex,
// or "error" and why. Values of one line share their references.

import com.caucho.hessian.io.Hessian2Input;
import com.caucho.hessian.io.Hessian2Output;
import com.caucho.hessian.io.SerializerFactory;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

public class HessianPeer {
    enum Colour { RED, BLUE }

    static class Node implements Serializable {
        Object name;
        Object next;
        long number;
    }

    static class Other implements Serializable {
        Object value;
    }

    private static String repeated(String text, int count) {
        return text.repeat(count);
    }

    /** What the tests ask for by name. */
    private static Object[] named(String name) {
        Node node = new Node();
        switch (name) {
            case "numbers":
                return new Object[] {0, -17, 2048, 262144, 0L, 16L, -2049L, 1L << 31, 1L << 40, 0.0, 1.0, -128.0, 12.25, Math.PI, 1e300};
            case "others":
                return new Object[] {null, true, false, new Date(894621091000L), new Date(894621060000L), new byte[5000], new byte[3]};
            case "strings":
                return new Object[] {"", "a", repeated("\u00e9", 40), repeated("\u4e2d", 2000), repeated("a\ud83d\ude00", 30000), "\ud83d"};
            case "collections":
                Map<Object, Object> sorted = new TreeMap<>();
                sorted.put("a", 1);
                return new Object[] {
                    new ArrayList<>(List.of(1, 2)), new int[] {1, 2, 3}, new String[] {"a"}, new LinkedList<>(List.of(1L)),
                    sorted, new HashMap<>(Map.of(1, "x")), new long[20]
                };
            case "enums":
                return new Object[] {Colour.RED, Colour.BLUE, new ArrayList<>(List.of(Colour.RED))};
            case "cycle":
                node.name = "n";
                node.next = new ArrayList<>(Arrays.asList(node, node));
                node.number = 7;
                return new Object[] {node, node};
            case "exception":
                return new Object[] {new IllegalStateException("no", new RuntimeException("why"))};
            default:
                throw new IllegalArgumentException(name);
        }
    }

    private static Object[] read(byte[] data, SerializerFactory factory) throws Exception {
        ByteArrayInputStream stream = new ByteArrayInputStream(data);
        Hessian2Input input = new Hessian2Input(stream);
        input.setSerializerFactory(factory);
        List<Object> values = new ArrayList<>();
        while (!input.isEnd()) {
            values.add(input.readObject());
        }
        return values.toArray();
    }

    public static void main(String[] arguments) throws Exception {
        SerializerFactory factory = new SerializerFactory(HessianPeer.class.getClassLoader());
        factory.setAllowNonSerializable(true);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String answer;
            try {
                Object[] values = line.startsWith("echo ") ? read(HexFormat.of().parseHex(line.substring(5)), factory) : named(line);
                ByteArrayOutputStream bytes = new ByteArrayOutputStream();
                Hessian2Output output = new Hessian2Output(bytes);
                output.setSerializerFactory(factory);
                for (Object value : values) {
                    output.writeObject(value);
                }
                output.flush();
                answer = HexFormat.of().formatHex(bytes.toByteArray());
            } catch (Throwable error) {
                answer = "error " + error.toString().replace('\n', ' ');
            }
            System.out.println(answer);
            System.out.flush();
        }
    }
}
