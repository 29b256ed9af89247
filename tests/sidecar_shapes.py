"""Sidecar files of XMP in the forms that programs for photo libraries write."""

from __future__ import annotations

DARKTABLE_4 = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:darktable="http://darktable.sf.net/"
    exif:DateTimeOriginal="2023:05:14 09:31:07.000"
    xmp:Rating="3"
    xmpMM:DerivedFrom="photo.dng"
    darktable:import_timestamp="63819654789123456"
    darktable:change_timestamp="-1"
    darktable:export_timestamp="-1"
    darktable:xmp_version="5"
    darktable:raw_params="0"
    darktable:auto_presets_applied="1"
    darktable:history_end="2"
    darktable:iop_order_version="4"
    darktable:history_basic_hash="2a7f0b5e7a0d4c3f9f1d5f8a3b6c7d8e">
   <darktable:masks_history>
    <rdf:Seq/>
   </darktable:masks_history>
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:operation="rawprepare"
      darktable:enabled="1"
      darktable:modversion="2"
      darktable:params="000000000000000000000000000000006400640064006400ff0f000000000000"
      darktable:multi_name=""
      darktable:multi_priority="0"
      darktable:blendop_version="13"
      darktable:blendop_params="gz11eJxjYIAACQYYOOHEgAZY0QVwggZ7CB6pfNoAAEkgGQQ="/>
     <rdf:li
      darktable:num="1"
      darktable:operation="exposure"
      darktable:enabled="1"
      darktable:modversion="6"
      darktable:params="00000000000080b93333333f00004842000080c0"
      darktable:multi_name="a &amp; b"
      darktable:multi_priority="0"
      darktable:blendop_version="13"
      darktable:blendop_params="gz11eJxjYIAACQYYOOHEgAZY0QVwggZ7CB6pfNoAAEkgGQQ="/>
    </rdf:Seq>
   </darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""

DARKTABLE_5 = (
    DARKTABLE_4.replace('"5"\n    darktable:raw', '"6"\n    darktable:raw')
    .replace(
        "   <darktable:masks_history>",
        """   <dc:creator>
    <rdf:Seq>
     <rdf:li>Ann</rdf:li>
    </rdf:Seq>
   </dc:creator>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>zebra</rdf:li>
     <rdf:li>Dog</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <lr:hierarchicalSubject>
    <rdf:Seq>
     <rdf:li>animal|zebra</rdf:li>
     <rdf:li>animal|Dog</rdf:li>
    </rdf:Seq>
   </lr:hierarchicalSubject>
   <darktable:masks_history>""",
    )
    .replace(
        '    xmlns:exif="',
        """    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
    xmlns:exif=\"""",
    )
)

LIGHTROOM = """<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000 1.000000  ">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
   xmp:ModifyDate="2024-02-11T16:20:01"
   xmp:CreatorTool="Adobe Photoshop Lightroom Classic 13.1 (Windows)"
   xmp:MetadataDate="2024-02-12T08:00:59+01:00"
   xmp:Rating="5"
   xmp:Label="Red"
   photoshop:SidecarForExtension="DNG"
   photoshop:DateCreated="2024-02-11T16:20:01"
   dc:format="image/dng"
   xmpMM:DocumentID="0B3B5B5C7D2F4A1E9C8D7E6F5A4B3C2D"
   crs:Version="16.1"
   crs:WhiteBalance="As Shot"
   crs:Exposure2012="+0.35"
   crs:RawFileName="photo.dng">
   <dc:creator>
    <rdf:Seq>
     <rdf:li>Ann</rdf:li>
    </rdf:Seq>
   </dc:creator>
   <xmpMM:History>
    <rdf:Seq>
     <rdf:li
      stEvt:action="saved"
      stEvt:instanceID="xmp.iid:6f8d1e6a-2c0f-5b49-8d1f-0c7a3e7b9a11"
      stEvt:when="2024-02-12T08:00:59+01:00"
      stEvt:softwareAgent="Adobe Photoshop Lightroom Classic 13.1 (Windows)"
      stEvt:changed="/metadata"/>
    </rdf:Seq>
   </xmpMM:History>
   <crs:ToneCurvePV2012>
    <rdf:Seq>
     <rdf:li>0, 0</rdf:li>
     <rdf:li>255, 255</rdf:li>
    </rdf:Seq>
   </crs:ToneCurvePV2012>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""

DIGIKAM = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:acdsee="http://ns.acdsee.com/iptc/1.0/"
   digiKam:PickLabel="0"
   digiKam:ColorLabel="0"
   xmp:Rating="4"
   acdsee:caption="ein Hund">
   <digiKam:TagsList>
    <rdf:Seq>
     <rdf:li>Orte/Strand</rdf:li>
    </rdf:Seq>
   </digiKam:TagsList>
   <dc:description>
    <rdf:Alt>
     <rdf:li xml:lang="de-DE">ein Hund</rdf:li>
     <rdf:li xml:lang="x-default">a photograph by Ann</rdf:li>
     <rdf:li xml:lang="fr-FR">un chien</rdf:li>
    </rdf:Alt>
   </dc:description>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Strand</rdf:li>
    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""

EXIFTOOL = """<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Image::ExifTool 12.57'>
<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>

 <rdf:Description rdf:about=''
  xmlns:dc='http://purl.org/dc/elements/1.1/'>
  <dc:subject>
   <rdf:Bag>
    <rdf:li>one</rdf:li>
   </rdf:Bag>
  </dc:subject>
  <dc:title>
   <rdf:Alt>
    <rdf:li xml:lang='x-default'>A title</rdf:li>
   </rdf:Alt>
  </dc:title>
 </rdf:Description>

 <rdf:Description rdf:about=''
  xmlns:photoshop='http://ns.adobe.com/photoshop/1.0/'>
  <photoshop:CaptionWriter>Ann</photoshop:CaptionWriter>
  <photoshop:Credit>Ann</photoshop:Credit>
 </rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end='w'?>"""

COMPACT = (
    '<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description r:about=""'
    ' xmlns:y="http://example.org/y/" y:b="1>2"/></r:RDF>'
)

SHAPES = {
    "darktable 4": DARKTABLE_4,
    "darktable 5": DARKTABLE_5,
    "Lightroom": LIGHTROOM,
    "digiKam": DIGIKAM,
    "exiftool": EXIFTOOL,
    "compact": COMPACT,
}
