"""Names, streets and towns. Those of the held-out half are in none of the lists that recognisers have."""

from __future__ import annotations

TUNING_FIRST = """Anna Max Jürgen Mehmet Fatma Sabine Thomas Julia Michael Ayşe Piotr Agnieszka Giulia Mohammed Leila Björn Götz
 Käthe Sören Olga Dmitri Emily James Sarah Patrick Maria Karl-Heinz Ann-Kathrin Zelimir Oyku Tjorven Ikram Ngozi Yuki""".split()
TUNING_LAST = """Schmidt Müller Yılmaz Kowalski Rossi Özdemir Weber Hoffmann Johnson Smith Nguyen Wójcik Krüger Groß Böttcher
 Demir Petersen Zimmermann Klein König Wolf Lang Zwiebelberg Oßwaldt Tränkner Pfnür Abdelrahman Okonkwo Svoboda Halvorsen""".split()
HELD_FIRST = """Roswintha-Ragnhild Ottokar Sieghart Wunnibald Adelgunde Irmintraut Ruthard Fridolin Eilika Bothild Tilda Jorinde
 Oluwaseun Chidinma Tendai Nokuthula Makena Kwabena Thandiwe Zubaida Rukhsana Parvaneh Shahrzad Behrouz Golnaz Dilshad
 Aigerim Nurlan Gulnara Tsering Lhamo Siriporn Nattapong Xiaoling Weiming Haruka Kenjiro Minseo Jihoon Thanh-Huong
 Ljubomir Zdravka Blagoje Vjekoslav Radmila Dobrinka Snezhana Ilmari Päivi Tuulikki Eero Jarmo Kaisu Gwenllian Rhydderch
 Saoirse Fionnuala Caoimhe Peadar Xochitl Itzel Guadalupe Anahí Calogero Ermenegilda Ruggero Eulalia Leocadia Nazenin
 Hovhannes Anoush Tigran Besnik Drita Shpresa Arbnora""".split()
HELD_LAST = """Quaddeldorp Striezelmaier Knoblingsdorf Wuttigrath Brömmelhaupt Zschiegner Hümpfershausen Ploghöft Tjarksen Sprüngli
 Kötteritzsch Unverzagtius Drögenkamp Mückenhaupt Hasselquist Ruotsalainen Hyttinen Laaksonen Kekkonen Adeyemi Chukwuemeka
 Ramaphosi Mwangale Owusuansah Ndlovukazi Zulfiqarian Rahmanzadeh Ghorbanpour Tavakolian Bekzhanova Tulegenov
 Wangchukdorji Phongsavath Srisombat Takahashira Yamaguchino Kobayakawa Bunprasert Tranvanh Radosavljev Zdravković
 Hadžihasanović Crnogorčević Szczepanowicz Brzęczyszczykiewicz Wojnarowiczówna Papakonstantinou Hatzidimitriou
 Castelnuovetti Sangiovannini Etxeberriaga Goikoetxea Llewellynson Featherstonehaugh Cholmondeleigh Abernathyson
 Macgillycuddy Ógallchobhair Ter-Hovsepyan Grigoryants Shkurtaj Gjonbalaj Berishaj Qytetari Vandewoestijne Oudenhuijsen
 Tlatelolca Quetzalli Ixtlilxochitl Umubyeyi""".split()
TUNING_STREETS = [
    *"""Hauptstraße Goethestr. Lindenallee Bahnhofstraße Gartenweg Marktplatz Schillergasse Kirchring Mühlendamm
 Friedrich-Ebert-Straße""".split(),
    "Am Stadtpark",
    "Unter den Linden",
    "Berliner Straße",
]
TUNING_TOWNS = "Köln Berlin München Hamburg Leipzig Stuttgart Bonn Neustadt".split()
HELD_STREETS = [
    *"""Wollmerather-Straße Quittenpfad Klingelpütz-Allee Färberstieg Zwetschgenweg Hopfenufer Tulpenchaussee
 Dr.-Külz-Ring""".split(),
    "An der Sülze",
    "Im Brühl",
    "Alte Poststraße",
    "Kurt-Huber-Platz",
]
HELD_TOWNS = "Buxtehude Quakenbrück Zwiesel Pinneberg Wernigerode Tuttlingen Bebra Xanten".split()
TUNING_ROADS = ["Baker Street", "Maple Ave", "Oak Road", "Elm St", "High Street", "Sunset Blvd"]
TUNING_CITIES = [("Springfield", "IL 62704"), ("Boston", "MA 02108"), ("London", "NW1 6XE"), ("Leeds", "LS1 4DY")]
HELD_ROADS = [
    "Quarry Lane",
    "Whispering Pines Drive",
    "Thornbury Crescent",
    "Kestrel Court",
    "Old Mill Rd",
    "Hawthorne Terrace",
]
HELD_CITIES = [
    ("Walla Walla", "WA 99362"),
    ("Schenectady", "NY 12305"),
    ("Kidderminster", "DY10 1AB"),
    ("Truro", "TR1 2HE"),
]
HOSTS = ["example.com", "example.org", "mail.example.net", "posteo.example.de", "stadt.example.eu"]
